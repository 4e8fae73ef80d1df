"""Rows of a deployment that has finished a great deal, and what its stages ask the database every round."""

import json
from typing import Any

from penstock.postgres.queries import queries
from tests.support.rows import ACCOUNT, LANE

ROWS = """
INSERT INTO batch (id, lane_id, root_id, state, slot, seal_reason, requests, bytes, tokens, inputs, sealed_at,
    deadline_at, file_id, provider_batch_id, provider_status, provider_open, submitted_at, ended_at, decision_id,
    decided_at, next_position, published_at, files_removed_at, ledger_cleared_at)
SELECT id, $1, id, $2::text, n % 32, 'age', 10, 1000, 100, 10, now() - n * interval '500000 seconds' / $3,
    now() + interval '1 day', 'file-' || n, 'batch-' || n, 'completed', $2 = 'submitted', now(), now(), id,
    now(), 10, done, done, done
FROM (
    SELECT gen_random_uuid() AS id, n,
        CASE WHEN $2 = 'published' THEN now() - n * interval '500000 seconds' / $3 END AS done
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
        "windows": "1, 3600",
        "overdue_lanes": "1",
        "overdue_chunks": "1, 10, 1",
        "unsealed_chunks": "1, 10000, 1",
        "sealed_ahead": "",
        "creates_pace": f"'{ACCOUNT}'",
        "measure_backlog": "",
        "spending": "",
    },
    "submitter": {
        "models_waiting": "",
        "batches_waiting": f"'{ACCOUNT}', '{LANE.model}'",
        "reserved": f"'{ACCOUNT}', '{LANE.model}', 900",
        "past_deadline": "",
        "withdrawn": "",
        "claimable_batch": f"'{ACCOUNT}', 30",
        "count_creates": f"'{ACCOUNT}'",
    },
    "poller": {"watched_batches": f"'{ACCOUNT}'", "take_hints": f"'{ACCOUNT}'"},
    "publisher": {
        "slots_with_work": "86400",
        "slot_batches": "3",
        "ledger_expected": "3, 86400",
        "ledger_keys_due": "3, 86400",
    },
    "janitor": {
        "files_due": f"'{ACCOUNT}', 86400, NULL",
        "forget_files": "2678400",
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
        "actionable": "20",
        "unknown_chunks": "1",
        "count_pauses": "",
        "stopped": "",
        "quota_waits": "",
        "file_ages": "",
        "uncollected_ages": "",
        "creates_by_account": f"'{{{ACCOUNT}}}'",
    },
    "each batch": {
        "load_batch": "'00000000-0000-0000-0000-000000000001'",
        "lock_batch": "'00000000-0000-0000-0000-000000000001', 'sealed'",
        "may_start": "'00000000-0000-0000-0000-000000000001'",
        "parts_of": "'00000000-0000-0000-0000-000000000001'",
        "doubt_of": "'00000000-0000-0000-0000-000000000001'",
        "close_chunks": "'00000000-0000-0000-0000-000000000001'",
        "batches_of_ledger": "'{00000000-0000-0000-0000-000000000001}'",
    },
}
MODES = ("force_custom_plan", "force_generic_plan")


async def explained(connection: Any, name: str, arguments: str, mode: str, options: str = "") -> dict[str, Any]:
    """How a query is answered, with the values known to the planner or not: prepared statements use both.

    Args:
        connection: to the database.
        name: of the query.
        arguments: its values, as SQL.
        mode: `force_custom_plan` or `force_generic_plan`.
        options: further ones of EXPLAIN.
    """
    await connection.execute(f"SET plan_cache_mode = {mode}")
    await connection.execute(f"PREPARE asked AS {queries()[name]}")
    call = f"asked({arguments})" if arguments else "asked"
    plan = json.loads(await connection.fetchval(f"EXPLAIN ({options}FORMAT JSON) EXECUTE {call}"))
    await connection.execute("DEALLOCATE asked")
    answer: dict[str, Any] = plan[0]
    return answer
