"""A batch as the stages see it: its row, its parts, its chunks' manifests."""

import contextlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.core.batch import BatchError, BatchState, Cancel, Verdict
from penstock.core.chunk import Manifest
from penstock.core.errors import PenstockError, Superseded
from penstock.core.lane import LaneKey
from penstock.core.requeue import Kept
from penstock.core.turn import Turn
from penstock.core.window import Part, Size
from penstock.postgres.database import Connection, Database, Record
from penstock.postgres.intake_store import lane_key
from penstock.postgres.window_store import read_manifest
from penstock.telemetry.failpoint import failpoint

READS_MAX = 3  # a chunk can be copied forward between two statements, hardly twice in a row


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One row of `batch`, with its lane and parts."""

    id: uuid.UUID
    lane_id: int
    key: LaneKey
    root_id: uuid.UUID
    state: BatchState
    slot: int
    size: Size
    lines_lost: int
    refusals: int
    creates: int
    """Batches made of its window and all its pieces so far."""
    own_creates: int
    """Of those, its own."""
    parts: tuple[Part, ...]
    attempts: tuple[int, ...]
    """Failures by its requests' own fault so far, of each part."""
    unreadables: tuple[int, ...]
    """How often the results of its requests could not be read, of each part."""
    kept: tuple[Kept, ...]
    """What the requests of each part keep when they are sent again."""
    file_id: str | None
    provider_batch_id: str | None
    provider_status: str | None
    provider_errors: tuple[BatchError, ...]
    output_file_id: str | None
    error_file_id: str | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    saving_usd: float | None
    cancel: Cancel | None
    files_given_up: bool
    """What cannot be had of its files at the next try counts as lost."""
    abandoned: bool
    verdict: Verdict | None
    decision_id: uuid.UUID | None
    next_position: int
    sealed_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    decided_at: datetime | None


def batch_row(row: Record, parts: list[Record]) -> BatchRow:
    """Read the columns of `load_batch` and `parts_of`."""
    errors: list[dict[str, Any]] = row["provider_errors"] or []
    same = (
        "id",
        "lane_id",
        "root_id",
        "slot",
        "lines_lost",
        "refusals",
        "creates",
        "own_creates",
        "file_id",
        "provider_batch_id",
        "provider_status",
        "output_file_id",
        "error_file_id",
        "input_tokens",
        "output_tokens",
        "abandoned",
        "files_given_up",
        "decision_id",
        "next_position",
        "sealed_at",
        "submitted_at",
        "ended_at",
        "decided_at",
        "cost_usd",
        "saving_usd",
    )
    return BatchRow(
        **{name: row[name] for name in same},
        key=lane_key(row),
        state=BatchState(row["state"]),
        cancel=Cancel(row["cancel"]) if row["cancel"] else None,
        size=Size(row["requests"], row["bytes"], row["tokens"], row["inputs"]),
        parts=tuple(Part(part["chunk_id"], part["first"], part["requests"]) for part in parts),
        attempts=tuple(part["attempt"] for part in parts),
        unreadables=tuple(part["unreadable"] for part in parts),
        kept=tuple(Kept(part["tries"] + 1, Turn(part["priority"], part["share"]), part["stored"]) for part in parts),
        provider_errors=tuple(BatchError(each["code"], each["message"], each["line"]) for each in errors),
        verdict=Verdict(row["verdict_code"], row["verdict_message"]) if row["verdict_code"] else None,
    )


async def load_batch(connection: Connection, batch_id: uuid.UUID) -> BatchRow:
    """Read a batch.

    Raises:
        Superseded: there is no such batch.
    """
    row = await connection.row("load_batch", batch_id)
    if row is None:
        raise Superseded(f"batch {batch_id} is not there")
    return batch_row(row, await connection.fetch("parts_of", batch_id))


async def lock_batch(connection: Connection, batch_id: uuid.UUID, state: BatchState) -> None:
    """Lock a batch in the state that the work stands on.

    Raises:
        Superseded: it is in another state.
    """
    if await connection.row("lock_batch", batch_id, state.value) is None:
        raise Superseded(f"batch {batch_id} is not {state}")


class ChunkReader:
    """Reads what chunks hold. A chunk that the ring copies forward under a reader is read again."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def manifest(self, chunk_id: uuid.UUID) -> Manifest:
        """A chunk's manifest.

        Raises:
            Superseded: the chunk is gone.
        """
        for _ in range(READS_MAX - 1):
            with contextlib.suppress(Superseded):
                return await self.read_manifest(chunk_id)
        return await self.read_manifest(chunk_id)

    @failpoint("chunk.manifest")
    async def read_manifest(self, chunk_id: uuid.UUID) -> Manifest:
        """One look at a chunk's manifest.

        Raises:
            Superseded: it is not where the look began.
        """
        async with self.database.transaction() as connection:
            return await read_manifest(connection, chunk_id)

    @failpoint("chunk.payload")
    async def payload(self, chunk_id: uuid.UUID) -> bytes:
        """A chunk's compressed lines.

        Raises:
            PenstockError: they are gone although a batch still needs them.
        """
        async with self.database.transaction() as connection:
            return await read_payload(connection, chunk_id)


async def read_payload(connection: Connection, chunk_id: uuid.UUID) -> bytes:
    """A chunk's compressed lines; read again when the ring copied them forward between snapshot and look.

    Raises:
        PenstockError: they are gone although a batch still needs them.
    """
    for _ in range(READS_MAX):
        lines: bytes | None = await connection.value("payload_of", chunk_id)
        if lines is not None:
            return lines
    raise PenstockError(f"the lines of chunk {chunk_id} are gone")
