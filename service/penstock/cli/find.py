"""`penstock find`."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
import typer
import zstandard
from rich.markup import escape

from penstock.cli.ending import what_happens
from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, console, print_json, since
from penstock.core.chunk import Manifest, decode_manifest
from penstock.core.decision import FINAL, Outcome, decode_decision
from penstock.core.lane import LaneKey
from penstock.postgres.database import opened
from penstock.postgres.report_store import ReportStore
from penstock.settings import PollerSettings, Settings

Page = list[tuple[UUID, int, bytes]]

WORDS = {
    Outcome.OUTPUT: "success",
    Outcome.ERROR: "error",
    Outcome.VERDICT: "error, without the provider",
    Outcome.EXHAUSTED: "error, after the last attempt",
    Outcome.DEAD_LETTER: "dead letter",
    Outcome.DEADLINE: "error, its deadline passed",
    Outcome.UNREADABLE: "error, the provider's results could not be read",
}


class Match(NamedTuple):
    """A request in a chunk."""

    chunk_id: UUID
    place: int
    attempt: int
    topic: str
    partition: int
    offset: int
    received: float
    result_id: str


def find(
    custom_id: Annotated[str, typer.Argument(help="The producer's custom_id, whole.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell where a request is: in a window, in a batch, or published, and with which outcome.

    Producers may use an id more than once, so there can be several. Requests are found for PENSTOCK_HISTORY_DAYS
    after they were answered; a message that could not be a request has no id (see `penstock tail --dead-letters`).
    The exit status is 1 when there is none.

    For example:

    * `penstock find order-4711`
    * `penstock find order-4711 --output json`
    """

    async def main(settings: Settings) -> list[dict[str, Any]]:
        async with opened(settings) as database:
            store = ReportStore(database)
            return await located(store, await search(store, custom_id), settings.poller)

    found = command(main)
    if output is Output.JSON:
        print_json(found)
    else:
        for each in found:
            print_one(each)
    if not found:
        typer.echo(f"penstock: no request has the custom_id {custom_id}", err=True)
        raise typer.Exit(1)


async def search(store: ReportStore, custom_id: str) -> list[Match]:
    """Every request of this id; the next page is fetched while one is searched in a thread."""
    needle = msgspec.msgpack.encode(custom_id)
    found: list[Match] = []
    pages = aiter(store.manifests())
    page: Page | None = await anext(pages, None)
    while page is not None:
        following = asyncio.ensure_future(anext(pages, None))
        found += await asyncio.to_thread(search_page, page, custom_id, needle)
        page = await following
    return found


def search_page(page: Page, custom_id: str, needle: bytes) -> list[Match]:
    """Search the packed bytes first: a manifest is only read where the id stands in it."""
    decompressor = zstandard.ZstdDecompressor()
    return [
        match
        for chunk_id, attempt, body in page
        if needle in decompressor.decompress(body)
        for match in matches(chunk_id, attempt, decode_manifest(body), custom_id)
    ]


def matches(chunk_id: UUID, attempt: int, manifest: Manifest, custom_id: str) -> list[Match]:
    """The requests of a chunk that have the id."""
    return [
        Match(
            chunk_id,
            index,
            attempt,
            manifest.topic,
            manifest.partitions[index],
            manifest.offsets[index],
            manifest.received[index],
            manifest.result_id(index),
        )
        for index, each in enumerate(manifest.custom_ids)
        if each == custom_id
    ]


async def located(store: ReportStore, found: list[Match], settings: PollerSettings) -> list[dict[str, Any]]:
    """Where each request is now: of several attempts at one, that which counts."""
    requests: dict[str, dict[str, Any]] = {}
    for match in sorted(found, key=lambda each: each.attempt):
        place = await store.whereabouts(match.chunk_id, match.place)
        if place is None:
            continue
        told = describe(match, place, settings)
        if told is not None:
            requests[match.result_id] = told
    return list(requests.values())


def describe(match: Match, place: dict[str, Any], settings: PollerSettings) -> dict[str, Any] | None:
    """One attempt at a request; None when it is over and another one counts.

    Args:
        match: its place in a chunk.
        place: the chunk, and the batch that it is in.
        settings: say how long a batch that has to end may take.
    """
    told: dict[str, Any] = {
        "topic": match.topic,
        "partition": match.partition,
        "offset": match.offset,
        "received_at": datetime.fromtimestamp(match.received, UTC),
        "result_id": match.result_id,
        "lane": str(LaneKey(place["account"], place["endpoint"], place["model"], place["completion_window"])),
        "attempt": match.attempt + 1,
    }
    if place["batch_id"] is None:
        return told | {"state": "window", "not_before": place["not_before"] if match.attempt else None}
    told |= {
        "state": place["state"],
        "batch": place["batch_id"],
        "provider_batch": place["provider_batch_id"],
        "provider_status": place["provider_status"],
    }
    if place["decision"] is None:
        return told | {"ending": what_happens(place, settings)}
    outcome = Outcome(decode_decision(place["decision"]).outcomes[place["place"]])
    if outcome not in FINAL:
        return None
    published = place["next_position"] > place["place"] or place["published_at"] is not None
    return told | {
        "state": "published" if published else "decided",
        "outcome": WORDS[outcome],
        "published_at": place["published_at"],
    }


def print_one(told: dict[str, Any]) -> None:
    """A request, for a person."""
    screen = console()
    screen.print(
        f"[bold]{told['topic']} {told['partition']} @ {told['offset']}[/], received {since(told['received_at'])} ago"
    )
    screen.print(f"  lane      {told['lane']}, attempt {told['attempt']}")
    screen.print(f"  state     {told['state']}" + (f": {told['outcome']}" if "outcome" in told else ""))
    if batch := told.get("batch"):
        provider = (
            f", at the provider {told['provider_batch']} ({told['provider_status']})" if told["provider_batch"] else ""
        )
        screen.print(f"  batch     {batch}{provider}")
    if told.get("ending"):
        screen.print(f"  ending    {escape(told['ending'])}")
    if told.get("published_at"):
        screen.print(f"  published {told['published_at']:%Y-%m-%d %H:%M:%S} UTC, result id {told['result_id']}")
