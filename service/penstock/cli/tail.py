"""`penstock tail`."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, console, print_json
from penstock.core.excerpt import excerpt, shortened
from penstock.kafka.record_reader import RecordReader
from penstock.kafka.request_producer import custom_id_of
from penstock.settings import Settings

POLL_SECONDS = 0.5
EXCERPT_LENGTH = 100


def tail(
    dead_letters: Annotated[bool, typer.Option("--dead-letters", help="Dead letters instead of results.")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Also what is there already.")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on for ever, or end at the end.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    custom_id: Annotated[str | None, typer.Option(help="Only those of this custom_id.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Follow the results as they are published, or the dead letters, a line for each.

    Reads committed records alone, like a consumer with `isolation.level=read_committed`, and commits nothing.

    For example:

    * `penstock tail`
    * `penstock tail --dead-letters --from-beginning --no-follow`
    * `penstock tail --custom-id order-4711 --from-beginning --limit 1 --output json | jq .value`
    """

    async def main(settings: Settings) -> None:
        kafka = settings.kafka
        topics = [kafka.dead_letter_topic] if dead_letters else sorted(settings.read_lanes().topics(kafka.result_topic))
        screen, left = console(), limit
        async with RecordReader(kafka, topics, from_beginning=from_beginning) as reader:
            async for record in records(reader, follow=follow):
                if custom_id is not None and custom_id_of(record.value) != custom_id:
                    continue
                show(record, output, screen)
                left = left - 1 if left is not None else None
                if left == 0:
                    return

    command(main)


async def records(reader: RecordReader, *, follow: bool) -> AsyncIterator[Any]:
    """What is there, and then what comes, or else no more."""
    ends = await reader.ends()
    while follow or not await reader.has_passed(ends):
        for record in await reader.poll(POLL_SECONDS):
            yield record


def show(record: Any, output: Output, screen: Console) -> None:
    """One record in one line."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    value = parsed(record.value)
    if output is Output.JSON:
        told = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        told |= {"timestamp": datetime.fromtimestamp(record.timestamp / 1000, UTC), "key": record.key}
        print_json(told | {"headers": headers, "value": value}, indent=None)
        return
    time = datetime.fromtimestamp(record.timestamp / 1000).astimezone()
    name, said = lines_of(value, headers)
    screen.print(
        f"[dim]{time:%H:%M:%S} {record.partition}@{record.offset}[/] [bold]{escape(name)}[/] {escape(said)}",
        soft_wrap=True,
    )


def parsed(value: bytes | None) -> Any:
    """The value as JSON, or as the text that it is."""
    try:
        return json.loads(value or b"null")
    except ValueError:
        return (value or b"").decode(errors="replace")


def lines_of(value: Any, headers: dict[str, str]) -> tuple[str, str]:
    """A record's name and what it says."""
    members = value if isinstance(value, dict) else {}
    name = str(members.get("custom_id") or "-")
    if code := headers.get("penstock.error.code"):
        origin = f"{headers.get('penstock.origin.partition')}@{headers.get('penstock.origin.offset')}"
        return name, f"{code}: {headers.get('penstock.error.reason', '')} (from {origin})"
    response, error = members.get("response"), members.get("error")
    if isinstance(response, dict):
        status, body = response.get("status_code", 0), response.get("body")
        said = excerpt(body) if isinstance(body, dict) else str(body)
        return name, f"{status} {shortened(said, EXCERPT_LENGTH)}"
    if isinstance(error, dict):
        return name, f"{error.get('code', 'error')}: {error.get('message', '')}"
    return name, f"error: {shortened(str(error), EXCERPT_LENGTH)}"
