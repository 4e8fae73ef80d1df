"""What must be true at the end: all answered, nothing held, all payments accounted for, clean at the provider."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from tests.checker.reader import ends_of
from tests.checker.topic_source import describe_topics
from tests.soak.havoc import Replica
from tests.soak.traffic import Ear
from tests.support.bridge import Bridge, NotClean
from tests.support.payments import Payments, payments

DRAIN_SECONDS = 600.0
CLEAN_SECONDS = 120.0
POLL_SECONDS = 1.0
LEFT = """
    SELECT
        (SELECT count(*) FROM chunk WHERE taken < requests) AS "chunks in no batch",
        (SELECT count(*) FROM batch WHERE state NOT IN ('published', 'split')) AS "batches unpublished",
        (SELECT count(*) FROM batch WHERE provider_open) AS "batches open at the provider",
        (SELECT count(*) FROM chunk WHERE closed_at IS NULL) AS "chunks of the backlog",
        (SELECT count(*) FROM reservation) AS "reservations",
        (SELECT count(*) FROM intent WHERE settled_at IS NULL) AS "creates in doubt",
        (SELECT count(*) FROM lane WHERE halted_reason IS NOT NULL) AS "lanes halted",
        (SELECT count(*) FROM position WHERE halted_reason IS NOT NULL) AS "partitions halted",
        (SELECT count(*) FROM batch WHERE parked_reason IS NOT NULL) AS "batches parked",
        (SELECT count(*) FROM lease WHERE expires_at > clock_timestamp() AND holder <> ALL ($1::uuid[]))
            AS "leases of the dead"
"""
FILES_LEFT = "SELECT count(*) FROM batch WHERE published_at IS NOT NULL AND files_removed_at IS NULL"
COUNTED = "SELECT provider_batch_id FROM intent WHERE outcome = 'absent' AND provider_batch_id IS NOT NULL"
REMAINS = {
    "batches": "SELECT * FROM batch WHERE state NOT IN ('published', 'split') OR provider_open ORDER BY sealed_at",
    "chunks": "SELECT * FROM chunk WHERE closed_at IS NULL ORDER BY created_at LIMIT 200",
    "intents": "SELECT * FROM intent WHERE settled_at IS NULL OR outcome = 'absent'",
    "leases": "SELECT *, clock_timestamp() FROM lease WHERE expires_at > clock_timestamp()",
    "reservations": "SELECT * FROM reservation",
    "lanes": "SELECT * FROM lane",
    "quota": "SELECT * FROM quota",
    "positions": "SELECT * FROM position",
    "replicas": "SELECT * FROM replica",
}
NEVER = (
    "stage.round_failed",
    "batch.failed",
    "stage.part_failed",
    "data.lost",
    "slot.halted",
    "partition.halted",
    "lane.halted",
    "Task was destroyed but it is pending!",
)
"""Events that no scenario of a soak causes when they are errors; the last is the loop's word for a task left behind."""


async def messages_in(bridge: Bridge) -> int:
    """How many messages the request topics hold: the truth of what was produced."""
    bootstrap, names = bridge.kafka.bootstrap_servers, [bridge.requests, *bridge.more_requests]
    topics = await describe_topics(bootstrap, names)
    ends = [await ends_of(bootstrap, name, topics[name].partitions, "read_committed") for name in names]
    return sum(end for of_topic in ends for end in of_topic.values())


async def drained(bridge: Bridge, ear: Ear, replicas: Sequence[Replica]) -> tuple[float, dict[str, int]]:
    """Wait until nothing is under way; returns the seconds that took, and what is left when it takes too long."""
    began = time.monotonic()
    while True:
        live = [replica.ids()[-1] for replica in replicas if replica.was_up]
        [row] = await bridge.sql(LEFT, live)
        left = {**row, "messages without an answer": await messages_in(bridge) - ear.counts.total()}
        left["replicas not up"] = len(replicas) - len(live)
        left = {what: count for what, count in left.items() if count}
        seconds = time.monotonic() - began
        if not left or seconds > DRAIN_SECONDS:
            return seconds, left
        await asyncio.sleep(POLL_SECONDS)


async def cleaned(bridge: Bridge, superfluous: Collection[str]) -> list[str]:
    """Wait until the janitor has done its work; returns what is wrong.

    Each superfluous batch is counted, and the provider holds no file of ours but those that expire by themselves: the
    outputs of batches that were made or given up in vain.
    """
    ends_at = time.monotonic() + CLEAN_SECONDS
    while True:
        [(rows,)] = await bridge.sql(FILES_LEFT)
        uncounted = {*superfluous} - {each for (each,) in await bridge.sql(COUNTED)}
        async with bridge.simulator.client() as client:
            files = [each async for each in client.files.list()]
        inputs = sum(each.purpose == "batch" for each in files)
        endless = sum(each.expires_at is None for each in files)
        if not rows and not inputs and not endless and not uncounted:
            return []
        if time.monotonic() > ends_at:
            left = f"{rows} batches have files, {inputs} input files are left, {endless} files never expire"
            return [f"{left}, {len(uncounted)} superfluous batches are not counted"]
        await asyncio.sleep(POLL_SECONDS)


async def judged(bridge: Bridge, problems: list[str]) -> tuple[dict[str, Any], Payments]:
    """Ask the checker, with what the service has counted as all that may have been paid more than once."""
    paid = await payments(bridge)
    if paid.unexplained:
        problems.append(f"{len(paid.unexplained)} paid executions have no cause: {paid.unexplained[:5]}")
    try:
        report = await bridge.check(extra_executions_allowed=paid.extra.total())
    except NotClean as dirty:
        problems.append(f"the checker: {dirty}")
        report = {}
    return report, paid


def errors_of(replicas: Sequence[Replica]) -> Counter[str]:
    """What the replicas have logged as errors, by event."""
    found: Counter[str] = Counter()
    for replica in replicas:
        with replica.service.log.open(errors="replace") as log:
            for line in log:
                if '"level":"error"' in line.replace(" ", "") and line.startswith("{"):
                    event = json.loads(line)
                    found[event["event"].partition("\n")[0]] += 1
    return found


async def write_remains(bridge: Bridge) -> None:
    """Keep for people what Postgres holds that is not over."""
    with (bridge.folder / "remains.txt").open("w") as file:
        for name, query in REMAINS.items():
            file.write(f"{name}\n")
            for row in await bridge.sql(query):
                file.write(f"    {dict(row)}\n")
