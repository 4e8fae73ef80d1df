"""`penstock batches`."""

from collections import Counter
from typing import Annotated, Any

import typer
from rich.markup import escape

from penstock.cli.ending import what_happens
from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, age, console, print_json, since, table
from penstock.core.decision import Outcome
from penstock.core.lane import LaneKey
from penstock.postgres.database import opened
from penstock.postgres.report_store import ReportStore
from penstock.settings import Settings

COLUMNS = ["batch", "lane", "state", "provider", "provider's id", "requests", "sealed by", "sealed", "published"]
TIMES = ("sealed_at", "submitted_at", "cancel_asked_at", "ended_at", "published_at")


def batches(
    batch: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One batch: the beginning of its id, or the provider's id.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    output: OutputOption = Output.TEXT,
) -> None:
    """List recent batches, or show one in full: times, creates, parts, outcomes.

    The exit status is 1 when there is none.

    For example:

    * `penstock batches --limit 100`
    * `penstock batches 4c1da5a5`
    * `penstock batches batch_cf80adb83d1f7c211d7c6fd3 --output json`
    """

    async def main(settings: Settings) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        async with opened(settings) as database:
            store = ReportStore(database)
            rows = await store.batches(batch, limit)
            found = [{**each, "what_happens": what_happens(each, settings.poller)} for each in rows]
            return found, await in_full(store, found[0]) if batch and len(found) == 1 else None

    found, whole = command(main)
    if output is Output.JSON:
        print_json(whole or found)
    elif whole is not None:
        print_whole(whole)
    elif found:
        console().print(table("", COLUMNS, map(row, found), right=["requests"]))
    if not found:
        typer.echo(f"penstock: there is no batch {batch}" if batch else "penstock: there are no batches", err=True)
        raise typer.Exit(1)


def lane_of(batch: dict[str, Any]) -> LaneKey:
    """The batch's lane."""
    return LaneKey(batch["account"], batch["endpoint"], batch["model"], batch["completion_window"])


def lane_name(batch: dict[str, Any]) -> str:
    """The same, for people."""
    key = lane_of(batch)
    return "dead letters" if key.dead else escape(str(key))


def row(batch: dict[str, Any]) -> list[str]:
    """A batch's line in the table."""
    parked = " [red]parked[/]" if batch["parked_reason"] else ""
    return [
        str(batch["id"])[:8],
        lane_name(batch),
        batch["state"] + parked + ending(batch),
        batch["provider_status"] or "",
        batch["provider_batch_id"] or "",
        f"{batch['requests']:,}",
        batch["seal_reason"],
        f"{since(batch['sealed_at'])} ago",
        f"{since(batch['published_at'])} ago" if batch["published_at"] else "",
    ]


def ending(batch: dict[str, Any]) -> str:
    """That a batch has to end, and since when."""
    if batch["what_happens"] is None:
        return ""
    known = [batch[name] for name in ("asked_seconds", "told_seconds", "given_up_seconds") if batch[name] is not None]
    return f", [yellow]ending for {age(max(known))}[/]"


async def in_full(store: ReportStore, batch: dict[str, Any]) -> dict[str, Any]:
    """Everything that is known of a batch."""
    decision = await store.decision(batch["id"])
    outcomes = Counter(Outcome(each).name.lower() for each in decision.outcomes) if decision else Counter()
    creates, parts = await store.creates(batch["id"]), await store.parts(batch["id"])
    return {**batch, "outcomes": dict(outcomes), "creates": creates, "parts": parts}


def print_whole(batch: dict[str, Any]) -> None:
    """A batch, for a person."""
    screen = console()
    screen.print(f"[bold]{batch['id']}[/]  {lane_name(batch)}")
    facts = {
        "state": batch["state"] + (f", parked: {batch['parked_reason']}" if batch["parked_reason"] else ""),
        "ending": batch["what_happens"] or "",
        "provider": f"{batch['provider_batch_id']} ({batch['provider_status']})" if batch["provider_batch_id"] else "",
        "size": f"{batch['requests']:,} requests, {batch['bytes']:,} bytes, sealed by {batch['seal_reason']}",
        "slot": str(batch["slot"]),
        "verdict": batch["verdict_code"] or "",
        "published": f"{batch['next_position']:,} of {batch['requests']:,} positions, {batch['finals'] or 0:,} results",
        "outcomes": ", ".join(f"{name} {count:,}" for name, count in sorted(batch["outcomes"].items())),
    }
    facts |= {name.replace("_", " "): f"{batch[name]:%Y-%m-%d %H:%M:%S} UTC" for name in TIMES if batch[name]}
    for name, text in facts.items():
        if text:
            screen.print(f"  {name:<12} {escape(text)}")
    for each in batch["creates"]:
        answer = f"{each['outcome']} {each['provider_batch_id'] or ''}" if each["outcome"] else "[red]in doubt[/]"
        screen.print(f"  create       {each['intended_at']:%H:%M:%S} UTC {answer}")
    for each in batch["parts"]:
        last = each["first"] + each["requests"] - 1
        attempt = f", attempt {each['attempt'] + 1}" if each["attempt"] is not None else ""
        screen.print(f"  part {each['ordinal']:<7} chunk {each['chunk_id']} from {each['first']} to {last}{attempt}")
