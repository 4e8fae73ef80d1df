"""`penstock`: every command in one place."""

import typer

from penstock.cli import ask, batches, check, demo, find, levers, redrive, run, send, status, tail

app = typer.Typer(
    name="penstock",
    help="Kafka in, OpenAI Batch API through, Kafka out: exactly once, at half price.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for each in (
    demo.demo,
    check.check,
    run.migrate,
    run.run,
    send.send,
    ask.ask,
    tail.tail,
    status.status,
    batches.batches,
    find.find,
    levers.flush,
    levers.cancel,
    redrive.redrive,
):
    app.command()(each)
app.add_typer(levers.pause, name="pause")
app.add_typer(levers.resume, name="resume")
