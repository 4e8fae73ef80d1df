"""The journal: one JSON line per batch created and per request executed, so that paying twice is seen."""

import os
from pathlib import Path
from typing import Any

import msgspec

from batchsim.records import BatchRecord


class Journal:
    """An append-only file whose committed length is kept in the database.

    What was written without being committed (the process died in between) is cut off at the next start: a batch whose
    execution was not committed is executed again, and its lines must not be there twice.
    """

    def __init__(self, path: Path, committed_bytes: int) -> None:
        self.path = path
        self.file = path.open("ab", buffering=0)
        self.file.truncate(committed_bytes)
        self.bytes = committed_bytes

    def append(self, lines: bytes) -> int:
        """Write the lines and sync them to disk; returns the journal's length, for the database to commit."""
        view = memoryview(lines)
        while view:
            view = view[self.file.write(view) :]
        os.fsync(self.file.fileno())
        self.bytes += len(lines)
        return self.bytes

    def take_back(self, committed_bytes: int) -> None:
        """Cut off what was appended for a transaction that did not commit."""
        self.file.truncate(committed_bytes)
        self.bytes = committed_bytes

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def created_line(batch: BatchRecord) -> bytes:
    """The line of a batch that was created."""
    return encode_line(
        event="batch.created",
        batch_id=batch.id,
        time=batch.created_at,
        input_file_id=batch.input_file_id,
        endpoint=batch.endpoint,
        metadata=batch.metadata,
    )


def executed_line(batch: BatchRecord, custom_id: str, body_sha256: str, status_code: int) -> bytes:
    """The line of a request that was executed: successful ones (200) are billed."""
    return encode_line(
        event="request.executed",
        batch_id=batch.id,
        custom_id=custom_id,
        url=batch.endpoint,
        model=batch.model,
        body_sha256=body_sha256,
        status_code=status_code,
    )


def encode_line(**fields: Any) -> bytes:
    """One JSON line."""
    return msgspec.json.encode(fields) + b"\n"
