"""What stages ask every round must not grow with what is finished."""

import json
from collections.abc import Iterator
from typing import Any

from penstock.postgres.queries import queries
from tests.support.finished import BESIDE, MODES, POLLED, ROWS, explained
from tests.support.rows import migrated, open_lane

FINISHED = 100_000
UNFINISHED = 20
GROWING = {"batch", "chunk", "intent", "part", "lease"}
PLAN = """
CREATE FUNCTION pg_temp.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    EXECUTE 'EXPLAIN (GENERIC_PLAN, FORMAT JSON) ' || query INTO found;
    RETURN found;
END $$
"""
OPERATORS = {"recent_batches": "penstock batches", "cancellable": "penstock cancel"}
"""Queries that no stage asks, but a command: they look for a batch by a part of its id."""


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
            await connection.execute(PLAN)
            found = []
            for stage, polled in POLLED.items():
                for name, arguments in polled.items():
                    for mode in MODES:
                        plan = (await explained(connection, name, arguments, mode))["Plan"]
                        found += [f"{stage}: {name} ({mode}): {node}"[:600] for node in nodes(plan) if reads_all(node)]
            for name in queries().keys() - OPERATORS.keys():
                [plan] = json.loads(await connection.fetchval("SELECT pg_temp.plan($1)", queries()[name]))
                found += [f"{name}: {node}"[:600] for node in nodes(plan["Plan"]) if reads_all(node)]
            assert not found, "\n".join(found)
