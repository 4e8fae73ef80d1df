"""Ledger records: how far a batch's results are published, committed in the same transaction as the results."""

import uuid
from typing import NamedTuple

import msgspec

from penstock.core.errors import UnknownFormat

FORMAT = 1


class LedgerRecord(NamedTuple):
    """Every final result before ``next_position`` is committed, for this decision of this batch."""

    batch_id: uuid.UUID
    decision_id: uuid.UUID
    next_position: int


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
