"""`penstock`: every command in one place, each imported when it is asked for: all together take a second."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "demo": "demo",
    "check": "check",
    "migrate": "run",
    "run": "run",
    "send": "send",
    "ask": "ask",
    "tail": "tail",
    "status": "status",
    "batches": "batches",
    "find": "find",
    "flush": "levers",
    "cancel": "levers",
    "redrive": "redrive",
    "pause": "levers",
    "resume": "levers",
}
"""Each command, or group of commands, and the module that has it under the same name."""


class Commands(TyperGroup):
    """The commands, imported one by one."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002 - click asks so
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ARG002 - the same
        """One of them; None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f"penstock.cli.{COMMANDS[cmd_name]}"), cmd_name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
            alone.command(cmd_name)(found)
            found = alone
        return typer.main.get_command(found)


app = typer.Typer(
    cls=Commands,
    name="penstock",
    help="Kafka in, OpenAI Batch API through, Kafka out: exactly once, at half price.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def penstock() -> None:
    """Nothing is common to all commands."""
