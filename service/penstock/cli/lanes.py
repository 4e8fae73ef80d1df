"""Commands on lanes: `penstock flush` and `penstock resume-lane`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, print_json
from penstock.core.lane import LaneKey
from penstock.postgres.database import opened
from penstock.postgres.window_store import WindowStore
from penstock.settings import Settings

LaneArgument = Annotated[str | None, typer.Argument(help="A model or an endpoint; all lanes by default.")]


def flush(lane: LaneArgument = None, output: OutputOption = Output.TEXT) -> None:
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

    told(command(main), "flushing", "open", lane, output)


def resume_lane(lane: LaneArgument = None, output: OutputOption = Output.TEXT) -> None:
    """Let lanes go on that halted, because the provider refused what Penstock had written (`penstock status`).

    Nothing of a halted lane is lost or executed; its batches are tried again.

    For example:

    * `penstock resume-lane gpt-4o-mini`
    """

    async def main(settings: Settings) -> list[LaneKey]:
        async with opened(settings) as database:
            return await WindowStore(database).resume_lane(lane)

    told(command(main), "resuming", "halted", lane, output)


def told(lanes: Sequence[LaneKey], verb: str, state: str, lane: str | None, output: Output) -> None:
    """Print the lanes that were meant.

    Raises:
        typer.Exit: with status 1 when there are none.
    """
    if output is Output.JSON:
        print_json([each._asdict() for each in lanes])
    else:
        for each in lanes:
            typer.echo(f"{verb} {each}")
    if not lanes:
        typer.echo(
            f"penstock: no {state} lane has the model or endpoint {lane}" if lane else f"penstock: no lane is {state}",
            err=True,
        )
        raise typer.Exit(1)
