"""What the provider was paid for, set against what the service has written down: every extra execution has a cause.

Read from the simulator's journal and from Postgres, which outlive all replicas.
"""

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from penstock.core.batch import locate
from penstock.core.decision import Outcome, decode_decision
from penstock.core.identity import parse_wire_id
from penstock.core.window import Part
from tests.support.bridge import Bridge

BATCHES = """
    SELECT b.id, b.provider_batch_id, b.abandoned_at IS NOT NULL AS abandoned, d.body,
        (SELECT array_agg(p.chunk_id ORDER BY p.ordinal) FROM part AS p WHERE p.batch_id = b.id) AS chunks,
        (SELECT array_agg(p.first ORDER BY p.ordinal) FROM part AS p WHERE p.batch_id = b.id) AS firsts,
        (SELECT array_agg(p.requests ORDER BY p.ordinal) FROM part AS p WHERE p.batch_id = b.id) AS counts
    FROM batch AS b LEFT JOIN decision AS d ON d.batch_id = b.id
    WHERE b.provider_batch_id IS NOT NULL
"""
DOUBTS = "SELECT id FROM intent WHERE outcome IN ('absent', 'refused')"
OK = 200
IN_DOUBT = "a create in doubt that landed after all"
ABANDONED = "a batch that would not end was given up"
LOST = "a paid line or file was lost"


@dataclass(slots=True)
class Payments:
    """Paid executions: those whose answers were published, the extra ones by their cause, and those without one.

    `superfluous` are the provider's batches that were paid for and made by creates which were taken as lost.
    """

    published: int = 0
    extra: Counter[str] = field(default_factory=Counter)
    superfluous: set[str] = field(default_factory=set)
    unexplained: list[str] = field(default_factory=list)


class Decided(NamedTuple):
    """What the service has written down of a batch at the provider."""

    abandoned: bool
    outcomes: bytes
    places: Mapping[uuid.UUID, Sequence[tuple[int, int, int]]]

    def cause(self, custom_id: str) -> str | None:
        """Why an execution in it was extra; None for the one that was published.

        Raises:
            LookupError: there is no such position.
        """
        if self.abandoned:
            return ABANDONED
        wire = parse_wire_id(custom_id)
        for first, count, start in self.places.get(wire.chunk_id, ()) if wire else ():
            if wire and first <= wire.index < first + count:
                return None if self.outcomes[start + wire.index - first] == Outcome.OUTPUT else LOST
        raise LookupError(custom_id)


async def payments(bridge: Bridge) -> Payments:
    """Account for every paid execution; call it when all is published."""
    decided = {row["provider_batch_id"]: read(row) for row in await bridge.sql(BATCHES)}
    doubts = {row["id"].hex for row in await bridge.sql(DOUBTS)}
    found = Payments()
    made_in_vain: set[str] = set()
    for event in events(bridge.simulator.state / "journal.jsonl"):
        provider_batch = event["batch_id"]
        if event["event"] == "batch.created":
            if event["metadata"].get("penstock_create") in doubts:
                made_in_vain.add(provider_batch)
        elif event["status_code"] == OK:
            if provider_batch in decided:
                cause = decided[provider_batch].cause(event["custom_id"])
            elif provider_batch in made_in_vain:
                found.superfluous.add(provider_batch)
                cause = IN_DOUBT
            else:
                found.unexplained.append(f"{provider_batch} {event['custom_id']}")
                continue
            if cause is None:
                found.published += 1
            else:
                found.extra[cause] += 1
    return found


def read(row: Any) -> Decided:
    """A row of Postgres."""
    outcomes = decode_decision(row["body"]).outcomes if row["body"] else b""
    parts = [Part(*each) for each in zip(row["chunks"] or (), row["firsts"] or (), row["counts"] or (), strict=True)]
    return Decided(row["abandoned"], outcomes, locate(parts))


def events(path: Path) -> Iterator[dict[str, Any]]:
    """The journal's lines, one at a time."""
    with path.open("rb") as journal:
        yield from map(json.loads, journal)
