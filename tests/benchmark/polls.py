"""What each poll reads beside a million finished rows, and under a snapshot that is held while more are finished."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.benchmark.figure import Figure
from tests.benchmark.ground import Ground
from tests.support.finished import BESIDE, MODES, POLLED, ROWS, explained
from tests.support.rows import migrated, open_lane
from tests.support.stack import fresh_database

FINISHED = 1_000_000
UNDER_SNAPSHOT = 20_000
"""Ten hours of an account's 2,000 creates."""
UNFINISHED = 20
STATES = ("sealed", "creating", "submitted", "ended", "decided")
QUIET_BUFFERS_MAX = 1_000
HELD_BUFFERS_MAX = 100_000
BORN = """
INSERT INTO chunk (id, lane_id, format, topic, attempt, requests, left_bytes, left_tokens, left_inputs, stored_bytes,
    payload_turn, manifest_turn, deadline_at)
SELECT gen_random_uuid(), $1, 1, 'requests', 0, 10, 1000, 100, 10, 100, 0, 0, now() + interval '1 day'
FROM generate_series(1, $2::integer)
"""
LIFE = (
    """INSERT INTO batch (id, lane_id, root_id, slot, seal_reason, requests, bytes, tokens, inputs, deadline_at)
    SELECT id, lane_id, id, random(0, 31), 'age', 10, 1000, 100, 10, deadline_at FROM chunk WHERE taken < requests""",
    """INSERT INTO part SELECT id, 0, id, 0, 10 FROM batch WHERE state = 'sealed'""",
    "UPDATE chunk SET taken = requests, left_bytes = 0, left_tokens = 0, left_inputs = 0 WHERE taken < requests",
    "INSERT INTO reservation SELECT id, 'account', 'gpt-4o', 100 FROM batch WHERE state = 'sealed'",
    "INSERT INTO lease SELECT 'batch/' || id, 1, id, now() FROM batch WHERE state = 'sealed'",
    "UPDATE batch SET file_id = 'file' WHERE state = 'sealed'",
    "INSERT INTO intent (id, batch_id, account) SELECT id, id, 'account' FROM batch WHERE state = 'sealed'",
    "UPDATE batch SET state = 'creating' WHERE state = 'sealed'",
    "UPDATE intent SET settled_at = now(), outcome = 'landed' WHERE settled_at IS NULL",
    """UPDATE batch SET state = 'submitted', provider_batch_id = id::text, provider_status = 'validating',
    provider_open = true, submitted_at = now() WHERE state = 'creating'""",
    "UPDATE lease SET expires_at = '-infinity' WHERE expires_at > '-infinity'",
    "UPDATE batch SET provider_status = 'in_progress' WHERE provider_open",
    "UPDATE batch SET state = 'ended', provider_open = false, ended_at = now() WHERE provider_open",
    "DELETE FROM reservation",
    "UPDATE batch SET state = 'decided', decision_id = id, decided_at = now() WHERE state = 'ended'",
    "UPDATE batch SET next_position = 10 WHERE state = 'decided'",
    "UPDATE batch SET state = 'published', published_at = now() WHERE state = 'decided'",
    "UPDATE chunk SET closed_at = now() WHERE closed_at IS NULL",
)
"""What batches go through, one statement a step, as the stages do it one batch at a time."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a poll read, in buffers of 8 KiB, and how long it took; with the worse of the two kinds of plan."""

    query: str
    buffers: int
    milliseconds: float


async def measure(ground: Ground) -> Sequence[Figure]:
    """The worst poll before and after more has been finished under a held snapshot."""
    async with fresh_database(ground.postgres) as dsn, migrated(dsn) as pool:
        lane_id = await open_lane(pool)
        connection, holder = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
        try:
            # The rows are written a step at a time for all: no trigger or reference needs to look at each.
            await connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
            await connection.execute(ROWS, lane_id, "published", FINISHED)
            await connection.execute(BESIDE)
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")
            quiet = await worst(connection, lane_id)
            await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await holder.fetch("SELECT FROM lane")
            await connection.execute(BORN, lane_id, UNDER_SNAPSHOT)
            for step in LIFE:
                await connection.execute(step)
            await connection.execute("ANALYZE")
            held = await worst(connection, lane_id)
        finally:
            await holder.close()
            await connection.close()
    beside, under = f"beside {FINISHED:,} finished of each", f"{UNDER_SNAPSHOT:,} more finished under a held snapshot"
    return [
        Figure(f"most that a poll reads {beside} ({quiet.query})", quiet.buffers, "buffers", most=QUIET_BUFFERS_MAX),
        Figure(f"the same, {under} ({held.query})", held.buffers, "buffers", most=HELD_BUFFERS_MAX),
        Figure(f"its time ({held.query})", held.milliseconds, "ms"),
    ]


async def worst(connection: Any, lane_id: int) -> Read:
    """The poll that reads most, with some batches in every state before publishing; they are gone afterwards."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        for state in STATES:
            await connection.execute(ROWS, lane_id, state, UNFINISHED)
        return max([await read(connection, *each) for polled in POLLED.values() for each in polled.items()], key=size)
    finally:
        await transaction.rollback()


def size(read: Read) -> int:
    """By what polls are compared."""
    return read.buffers


async def read(connection: Any, query: str, arguments: str) -> Read:
    """Run a poll with both kinds of plan, each twice: the first time it may read what nobody has read before it."""
    buffers, milliseconds = 0, 0.0
    for mode in MODES:
        for _ in range(2):
            answer = await explained(connection, query, arguments, mode, "ANALYZE, BUFFERS, ")
        plan = answer["Plan"]
        buffers = max(buffers, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
        milliseconds = max(milliseconds, answer["Execution Time"])
    return Read(query, buffers, milliseconds)
