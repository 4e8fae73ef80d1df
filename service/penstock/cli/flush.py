"""`penstock flush`."""

from typing import Annotated

import typer

from penstock.app import opened
from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, print_json
from penstock.core.lane import LaneKey
from penstock.postgres.window_store import WindowStore
from penstock.settings import Settings


def flush(
    lane: Annotated[str | None, typer.Argument(help="A model or an endpoint; all lanes by default.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Seal what waits now, instead of when its window is full or old enough.

    Some replica seals within seconds. Each batch counts against the account's creates per hour.

    For example:

    * `penstock flush`
    * `penstock flush gpt-4o-mini`
    * `penstock flush /v1/embeddings`
    """

    async def main(settings: Settings) -> list[LaneKey]:
        async with opened(settings) as database:
            return await WindowStore(database).request_flush(lane)

    flushed = command(main)
    if output is Output.JSON:
        print_json([each._asdict() for each in flushed])
    else:
        for each in flushed:
            typer.echo(f"flushing {each}")
    if not flushed:
        typer.echo(
            f"penstock: no open lane has the model or endpoint {lane}" if lane else "penstock: no lane is open",
            err=True,
        )
        raise typer.Exit(1)
