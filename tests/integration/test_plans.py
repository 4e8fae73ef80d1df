"""What stages ask every round must not grow with what is finished."""

import json
from collections.abc import Iterator
from typing import Any

from penstock.postgres.queries import queries
from tests.support.rows import ACCOUNT, LANE, migrated, open_lane

FINISHED = 100_000
UNFINISHED = 20
ROWS = """
INSERT INTO batch (id, lane_id, root_id, state, slot, seal_reason, requests, bytes, tokens, inputs, sealed_at,
    deadline_at, file_id, provider_batch_id, provider_status, provider_open, submitted_at, ended_at, decision_id,
    decided_at, next_position, published_at, files_removed_at, ledger_cleared_at)
SELECT id, $1, id, $2::text, n % 32, 'age', 10, 1000, 100, 10, now() - n * interval '5 seconds',
    now() + interval '1 day', 'file-' || n, 'batch-' || n, 'completed', $2 = 'submitted', now(), now(), id,
    now(), 10, done, done, done
FROM (
    SELECT gen_random_uuid() AS id, n, CASE WHEN $2 = 'published' THEN now() - n * interval '5 seconds' END AS done
    FROM generate_series(1, $3::integer) AS n
) AS made
"""
BESIDE = """
INSERT INTO intent (id, batch_id, account, intended_at, settled_at, outcome)
    SELECT gen_random_uuid(), id, 'account', sealed_at, sealed_at, 'landed' FROM batch;
INSERT INTO lease (name, epoch, holder, expires_at) SELECT 'batch/' || id, 1, id, '-infinity' FROM batch;
INSERT INTO chunk (id, lane_id, format, topic, attempt, requests, taken, left_bytes, left_tokens, left_inputs,
    stored_bytes, payload_turn, manifest_turn, deadline_at, closed_at)
    SELECT id, lane_id, 1, 'requests', 0, 10, 10, 0, 0, 0, 100, 0, 0, now(), published_at FROM batch;
INSERT INTO part (batch_id, ordinal, chunk_id, first, requests) SELECT id, 0, id, 0, 10 FROM batch;
INSERT INTO reservation (batch_id, account, model, tokens)
    SELECT id, 'account', 'gpt-4o', 100 FROM batch WHERE state = 'submitted';
"""
POLLED = {
    "sealer": {
        "windows": "1",
        "overdue_lanes": "1",
        "overdue_chunks": "1, 10, 1",
        "unsealed_chunks": "1, 10000, 1",
        "creates_pace": f"'{ACCOUNT}'",
        "measure_backlog": "",
    },
    "submitter": {
        "models_waiting": "",
        "batches_waiting": f"'{ACCOUNT}', '{LANE.model}'",
        "reserved": f"'{ACCOUNT}', '{LANE.model}'",
        "past_deadline": "",
        "claimable_batch": "30",
        "count_creates": f"'{ACCOUNT}'",
    },
    "poller": {"watched_batches": f"'{ACCOUNT}'"},
    "publisher": {
        "slots_with_work": "86400",
        "slot_batches": "3",
        "ledger_expected": "3, 86400",
        "ledger_keys_due": "3, 86400",
    },
    "janitor": {
        "files_due": "86400",
        "unpark": "",
        "close_lanes": "",
        "delete_chunks": "604800",
    },
    "census": {
        "waits": "",
        "batch_states": "",
        "provider_statuses": "",
        "enqueued": "",
        "in_doubt": "",
        "actionable": "",
        "unknown_chunks": "1",
    },
    "each batch": {
        "load_batch": "'00000000-0000-0000-0000-000000000001'",
        "lock_batch": "'00000000-0000-0000-0000-000000000001', 'sealed'",
        "parts_of": "'00000000-0000-0000-0000-000000000001'",
        "doubt_of": "'00000000-0000-0000-0000-000000000001'",
        "close_chunks": "'00000000-0000-0000-0000-000000000001'",
        "batches_of_ledger": "'{00000000-0000-0000-0000-000000000001}'",
    },
}
GROWING = {"batch", "chunk", "intent", "part", "lease"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan and everything below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def reads_all(node: dict[str, Any]) -> bool:
    """Whether a node reads a table that grows with what is finished, from end to end."""
    if node["Node Type"] == "Seq Scan":
        return node["Relation Name"] in GROWING
    history = str(node.get("Index Name", "")).endswith(("_history", "_pkey", "_root", "_provider"))
    return history and "Index Cond" not in node


async def test_polling_reads_nothing_of_a_hundred_thousand_finished_batches(database: str) -> None:
    async with migrated(database) as pool:
        lane_id = await open_lane(pool)
        async with pool.pool.acquire() as connection:
            await connection.execute(ROWS, lane_id, "published", FINISHED)
            for state in ("sealed", "creating", "submitted", "ended", "decided"):
                await connection.execute(ROWS, lane_id, state, UNFINISHED)
            await connection.execute(BESIDE)
            await connection.execute("VACUUM ANALYZE")
            found = []
            for stage, polled in POLLED.items():
                for name, arguments in polled.items():
                    for mode in ("force_custom_plan", "force_generic_plan"):
                        plan = await explained(connection, name, arguments, mode)
                        found += [f"{stage}: {name} ({mode}): {node}"[:600] for node in nodes(plan) if reads_all(node)]
            assert not found, "\n".join(found)


async def explained(connection: Any, name: str, arguments: str, mode: str) -> dict[str, Any]:
    """A query's plan, with the values known to the planner or not: prepared statements use both."""
    await connection.execute(f"SET plan_cache_mode = {mode}")
    await connection.execute(f"PREPARE asked AS {queries()[name]}")
    call = f"asked({arguments})" if arguments else "asked"
    plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE {call}"))
    await connection.execute("DEALLOCATE asked")
    root: dict[str, Any] = plan[0]["Plan"]
    return root
