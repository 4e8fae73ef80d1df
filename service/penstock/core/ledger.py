"""Ledger records: how far a batch's results are published, committed in the same transaction as the results."""

import uuid
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from penstock.core.errors import UnknownFormat

FORMAT = 1


class LedgerRecord(NamedTuple):
    """Every final result before ``next_position`` is committed, for this decision of this batch."""

    batch_id: uuid.UUID
    decision_id: uuid.UUID
    next_position: int


def disagreement(
    ledger: Mapping[uuid.UUID, LedgerRecord], decisions: Mapping[uuid.UUID, uuid.UUID | None]
) -> str | None:
    """Why the ledger proves that Postgres lost data, if it does (P6).

    Args:
        ledger: its records, by batch.
        decisions: of those of its batches that Postgres knows.
    """
    for batch_id, record in ledger.items():
        if batch_id not in decisions:
            return f"the ledger names batch {batch_id}, which Postgres does not know: it lost data"
        if decisions[batch_id] != record.decision_id:
            return f"the ledger holds decision {record.decision_id} of batch {batch_id}, Postgres another one"
    return None


class StoredRecord(msgspec.Struct):
    """The record's value, as JSON: operators read it with any Kafka tool."""

    format: int
    decision: str
    next_position: int


def encode_ledger(record: LedgerRecord) -> tuple[bytes, bytes]:
    """Key and value of a ledger record."""
    value = StoredRecord(FORMAT, record.decision_id.hex, record.next_position)
    return record.batch_id.hex.encode(), msgspec.json.encode(value)


def decode_ledger(key: bytes, value: bytes) -> LedgerRecord:
    """Read a ledger record back.

    Raises:
        UnknownFormat: a newer version wrote it, or something else did.
    """
    try:
        stored = msgspec.json.decode(value, type=StoredRecord)
        if stored.format != FORMAT:
            raise UnknownFormat("ledger", f"format {stored.format}; this version knows {FORMAT}")
        return LedgerRecord(uuid.UUID(hex=key.decode()), uuid.UUID(hex=stored.decision), stored.next_position)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnknownFormat("ledger", error) from error
