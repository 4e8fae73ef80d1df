import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import UnknownFormat
from penstock.core.ledger import LedgerRecord, decode_ledger, encode_ledger

BATCH, DECISION = uuid.UUID(int=1), uuid.UUID(int=2)


@given(st.uuids(), st.uuids(), st.integers(0, 50_000))
def test_a_ledger_record_reads_back(batch_id: uuid.UUID, decision_id: uuid.UUID, position: int) -> None:
    record = LedgerRecord(batch_id, decision_id, position)
    assert decode_ledger(*encode_ledger(record)) == record


def test_an_operator_can_read_it() -> None:
    key, value = encode_ledger(LedgerRecord(BATCH, DECISION, 3))
    assert key == BATCH.hex.encode()
    assert json.loads(value) == {"format": 1, "decision": DECISION.hex, "next_position": 3}


KEY, VALUE = encode_ledger(LedgerRecord(BATCH, DECISION, 3))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (KEY, VALUE.replace(b'"format":1', b'"format":2')),
        (KEY, b'{"format":2}'),
        (KEY, b'{"format":1,"decision":"x","next_position":3}'),
        (KEY, b'{"format":1,"decision":"%b"}' % DECISION.hex.encode()),
        (KEY, b'{"format":"1"}'),
        (KEY, b"[]"),
        (KEY, b""),
        (KEY, b"\xff"),
        (b"", VALUE),
        (b"batch", VALUE),
        (b"\xff" * 32, VALUE),
    ],
)
def test_what_this_version_does_not_know_is_left_alone(key: bytes, value: bytes) -> None:
    with pytest.raises(UnknownFormat):
        decode_ledger(key, value)
