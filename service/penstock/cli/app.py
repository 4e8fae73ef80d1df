"""`penstock`: every command in one place."""

import typer

from penstock.cli import check, demo, find, flush, run, send

app = typer.Typer(
    name="penstock",
    help="Kafka in, OpenAI Batch API through, Kafka out: exactly once, at half price.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(run.run)
app.command()(run.migrate)
app.command()(check.check)
app.command()(send.send)
app.command()(demo.demo)
app.command()(find.find)
app.command()(flush.flush)
