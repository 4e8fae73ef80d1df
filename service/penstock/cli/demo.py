"""`penstock demo`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.outcome import INTERRUPTED, reported
from penstock.core.errors import ConfigurationError
from penstock.telemetry.log import configure_logging


def demo(
    input_file: Annotated[
        Path | None,
        typer.Option("--input", exists=True, dir_okay=False, help="Your own Batch API file (JSONL) as the requests."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C, and say how to reach it.")
    ] = False,
    faults: Annotated[
        str | None, typer.Option("--faults", metavar="SEED", help="Let the provider have a storm, dealt out by a seed.")
    ] = None,
    use_environment: Annotated[
        bool, typer.Option("--use-environment", help="Use the servers that PENSTOCK_… variables name; asks first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Run the whole system on this machine: a real Kafka, a real Postgres, a simulated provider.

    Over 10,000 requests about Python's standard library go from a request topic through batches to the result topic;
    the exit status is 0 only if every one came back exactly once. Nothing needs to be installed or set, nothing is
    left behind, and no request leaves the machine.

    With `--faults` the simulator makes every kind of fault that the Batch API is known for, and the report says how
    often each was met; all the same every request must come back exactly once.

    With `--use-environment` servers that the environment names are used instead of the embedded ones:
    PENSTOCK_KAFKA_BOOTSTRAP_SERVERS (topics of its own are deleted at the end), PENSTOCK_POSTGRES_DSN (a schema of its
    own is dropped), PENSTOCK_PROVIDER_BASE_URL (with its key: **a real provider bills you**). It says what it will use
    and what that costs, and asks. Without it, PENSTOCK_… and OPENAI_… variables are ignored.

    For example:

    * `penstock demo`
    * `penstock demo --input requests.jsonl`
    * `penstock demo --keep`
    * `penstock demo --faults 1`
    * `penstock demo --use-environment --input requests.jsonl`
    """
    configure_logging("error", console=True)
    with reported():
        try:
            from penstock.demo.corpus import read_lines  # noqa: PLC0415 - takes extras that a service has not
            from penstock.demo.demonstration import demonstrate  # noqa: PLC0415 - the same
            from penstock.demo.environment import Environment  # noqa: PLC0415 - the same
            from penstock.demo.preview import preview  # noqa: PLC0415 - the same
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"{error}: pip install 'penstock[embedded,simulator]'") from error
        environment = Environment(os.environ, used=use_environment)
        if environment.ignored:
            names = ", ".join(environment.ignored)
            typer.echo(f"Ignored: {names} (penstock demo --use-environment reads PENSTOCK_… variables)")
        if use_environment:
            for line in preview(environment, read_lines(input_file)[0]):
                typer.echo(line)
            agree(yes=yes)
        try:
            passed = demonstrate(input_file, environment, keep=keep, seed=faults)
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if passed else 1)


def agree(*, yes: bool) -> None:
    """Ask whether to go on, unless that was said.

    Raises:
        ConfigurationError: there is nobody to ask.
        typer.Abort: no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("--use-environment asks before it sends anything: run it on a terminal, or add --yes")
    typer.confirm("Go on?", abort=True)
