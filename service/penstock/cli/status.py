"""`penstock status`."""

import asyncio
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape

from penstock.accounts import read_accounts
from penstock.cli.ending import what_happens
from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, age, console, money, print_json, size, table
from penstock.core.price import unpriced
from penstock.postgres.census_store import Gauges, without_account
from penstock.postgres.database import opened
from penstock.postgres.report_store import ReportStore
from penstock.settings import PollerSettings, Settings

WATCH_SECONDS = 2.0
STAGES = ("window", "sealed", "submitted", "ended")


@dataclass(frozen=True, slots=True)
class Report:
    """The cluster at one moment."""

    gauges: Gauges
    totals: dict[str, Any]
    unread: list[dict[str, Any]]
    backlogs: list[dict[str, Any]]
    halts: list[dict[str, Any]]
    ending: list[dict[str, Any]]
    """Batches that have to end, each with what happens to it."""


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every 2 seconds, until Ctrl-C.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the whole cluster: what waits where, batches, what needs an operator, the last day's tokens and money.

    For example:

    * `penstock status`
    * `penstock status --watch`
    * `penstock status --output json | jq '.halts'`
    """

    async def main(settings: Settings) -> None:
        async with opened(settings) as database:
            store, screen = ReportStore(database), console()
            accounts = read_accounts(settings, settings.read_lanes()).keys()
            report = await read(store, accounts, settings.poller)
            if output is Output.JSON:
                print_json(as_json(report), indent=None if watch else 2)
                while watch:
                    await asyncio.sleep(WATCH_SECONDS)
                    print_json(as_json(await read(store, accounts, settings.poller)), indent=None)
            elif watch:
                await show_for_ever(store, accounts, settings.poller, screen)
            else:
                screen.print(picture(report))

    command(main)


async def show_for_ever(
    store: ReportStore, accounts: Container[str], settings: PollerSettings, screen: Console
) -> None:
    """The picture, again and again in its place."""
    with Live(picture(await read(store, accounts, settings)), console=screen, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            live.update(picture(await read(store, accounts, settings)), refresh=True)


async def read(store: ReportStore, accounts: Container[str], settings: PollerSettings) -> Report:
    """Ask the database; what waits for other accounts than the configured ones stands still."""
    gauges = await store.gauges()
    unknown = [
        {
            "kind": "account",
            "name": account,
            "reason": f"configured no more; {requests:,} requests wait",
            "paused": False,
        }
        for account, requests in without_account(gauges.waits, accounts).items()
    ]
    halts = [*await store.halts(), *unknown]
    ending = [{**each, "what_happens": what_happens(each, settings)} for each in await store.ending()]
    return Report(gauges, await store.totals(), await store.unread(), await store.backlogs(), halts, ending)


def as_json(report: Report) -> dict[str, Any]:
    """The report for programs."""
    gauges = report.gauges
    return {
        "waiting": [{**wait.key._asdict(), **without_key(wait._asdict())} for wait in gauges.waits],
        "oldest_age_seconds": max((wait.oldest_age_seconds for wait in gauges.waits), default=0.0),
        "batches": gauges.batches,
        "provider_batches": gauges.provider_batches,
        "enqueued_tokens": {str(key): tokens for key, tokens in gauges.enqueued.items()},
        "enqueued_token_limits": {str(key): limit for key, limit in gauges.limits.items()},
        "in_doubt": {"creates": gauges.in_doubt, "oldest_age_seconds": gauges.in_doubt_age_seconds},
        "unread": report.unread,
        "backlogs": report.backlogs,
        "halts": report.halts,
        "ending": report.ending,
        "last_day": report.totals,
    }


def without_key(wait: dict[str, Any]) -> dict[str, Any]:
    """A wait's figures."""
    return {name: value for name, value in wait.items() if name != "key"}


def picture(report: Report) -> RenderableType:
    """The report for people."""
    gauges, totals = report.gauges, report.totals
    lines: list[RenderableType] = [f"[dim]{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}[/]", ""]
    nothing = "[bold]Nothing waits[/]" if not report.unread else "[bold]Nothing that is stored waits[/]"
    lines += [waiting(gauges) if gauges.waits else nothing, ""]
    lines += [f"[bold]In Kafka[/]     {escape(unread(each))}" for each in report.unread]
    lines.append(f"[bold]Batches[/]      {counts(gauges.batches)}")
    lines.append(f"[bold]At provider[/]  {counts(gauges.provider_batches)}")
    doubt = f"{gauges.in_doubt} creates, {age(gauges.in_doubt_age_seconds)}" if gauges.in_doubt else "none"
    lines.append(f"[bold]In doubt[/]     {doubt}")
    for each in report.backlogs:
        paused = " [bold red]intake is paused[/]" if each["paused"] else ""
        lines.append(f"[bold]Backlog[/]      {escape(each['topic'])} {size(each['stored_bytes'])}{paused}")
    for each in report.halts:
        word = "Paused" if each["paused"] else "Halted"
        lines.append(f"[bold red]{word}[/]       {each['kind']} {escape(each['name'])}: {escape(each['reason'])}")
    for each in report.ending:
        lines.append(f"[bold]Ending[/]       batch {str(each['id'])[:8]}: {escape(each['what_happens'])}")
    lines.append(
        f"[bold]Last day[/]     {totals['results']:,} results of {totals['batches_published']:,} batches, "
        f"{totals['input_tokens']:,} tokens in, {totals['output_tokens']:,} out"
    )
    left_out = unpriced(totals["unpriced_tokens"], totals["unpriced_models"])
    lines.append(
        f"[bold]Money[/]        {money(totals['cost_usd'])} spent, [green]{money(totals['saving_usd'])} saved[/]"
        + (f"; [bold yellow]{escape(left_out)}[/]" if left_out else "")
    )
    return Group(*lines)


def unread(topic: dict[str, Any]) -> str:
    """What a request topic holds that is not stored yet, and why, if a producer is the cause."""
    text = f"{topic['topic']}: {topic['records']:,} records are not stored yet"
    if topic["held"]:
        since = topic["held_since"].astimezone()
        text += (
            f"; {topic['held']:,} of them wait for a producer to commit or abort its transaction, "
            f"since {since:%Y-%m-%d %H:%M:%S %Z} (partition {topic['held_partition']})"
        )
    return text


def waiting(gauges: Gauges) -> RenderableType:
    """Requests that wait, by lane and stage."""
    lanes = {wait.key: dict.fromkeys(STAGES, 0) for wait in gauges.waits}
    ages = dict.fromkeys(lanes, 0.0)
    unstored = dict.fromkeys(lanes, 0.0)
    for wait in gauges.waits:
        lanes[wait.key][wait.stage] = wait.requests
        ages[wait.key] = max(ages[wait.key], wait.oldest_age_seconds)
        unstored[wait.key] = max(unstored[wait.key], wait.unstored_seconds)
    rows = [
        (
            "dead letters" if key.dead else escape(str(key)),
            *(f"{stages[stage]:,}" if stages[stage] else "" for stage in STAGES),
            age(ages[key]),
            age(unstored[key]),
        )
        for key, stages in sorted(lanes.items())
    ]
    times = ["oldest", "of it in Kafka"]
    return table("Requests that wait", ["lane", *STAGES, *times], rows, right=[*STAGES, *times])


def counts(values: dict[str, int]) -> str:
    """Counts by name, in one line."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(values.items())) or "none"
