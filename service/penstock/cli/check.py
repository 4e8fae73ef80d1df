"""`penstock check`."""

import asyncio
from typing import Annotated

import typer
from rich.markup import escape

from penstock.cli.finding import Level, Part
from penstock.cli.outcome import reported
from penstock.cli.preflight import Preflight
from penstock.cli.printing import Output, OutputOption, console, print_json
from penstock.kafka.layout import PARTITIONS
from penstock.telemetry.log import configure_logging

MARKS = {
    Level.OK: "[green]ok[/]     ",
    Level.WARNING: "[yellow]warning[/]",
    Level.PROBLEM: "[bold red]problem[/]",
}


def check(
    only: Annotated[
        list[Part] | None,
        typer.Option(help="Of what lies outside look at this alone; repeatable."),
    ] = None,
    create_topics: Annotated[
        bool, typer.Option("--create-topics", help="Create the topics that are missing, with the right settings.")
    ] = False,
    partitions: Annotated[
        int, typer.Option(min=1, help="Partitions of each topic created, but the ledger's.")
    ] = PARTITIONS,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Replicas of each; by default as many as there are brokers, 3 at most.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that are to run; by default as many as run now.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Look at everything that `penstock run` needs, and name every problem with its mend.

    The exit status is 0 when there is none, else 1. Nothing is changed, but topics with `--create-topics`.

    For example:

    * `penstock check`
    * `penstock check --create-topics --partitions 12 --replicas 3`
    * `penstock check --only kafka --create-topics`
    * `penstock check --processes 12`
    * `penstock check --output json | jq '.findings[] | select(.level == "problem")'`
    """
    configure_logging("error", console=True)
    parts = frozenset(only or Part)
    preflight = Preflight(
        parts, create_topics=create_topics, partitions=partitions, replicas=replicas, processes=processes
    )
    with reported():
        asyncio.run(preflight.run())
    if output is Output.JSON:
        print_json({"passed": preflight.passed, "findings": preflight.findings})
    else:
        print_findings(preflight)
    raise typer.Exit(0 if preflight.passed else 1)


def print_findings(preflight: Preflight) -> None:
    """One line for each, and its mend below."""
    screen = console()
    for each in preflight.findings:
        screen.print(f"{MARKS[each.level]} {each.part + ':':<12} {escape(each.text)}")
        if each.mend:
            screen.print(f"{'':<21} [bold]→[/] {escape(each.mend)}")
    problems = sum(each.level is Level.PROBLEM for each in preflight.findings)
    screen.print("everything is ready" if not problems else f"{problems} problem{'s' if problems > 1 else ''}")
