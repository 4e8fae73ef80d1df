from typing import Any

import pytest

from batchsim.batch_params import parse_batch_params
from batchsim.errors import ApiError
from batchsim.records import TERMINAL, TRANSITIONS, BatchRecord, Status, batch_object
from batchsim.rules import Outcome
from batchsim.settings import Delays


def batch(status: Status = Status.VALIDATING, **fields: object) -> BatchRecord:
    record = BatchRecord(
        id="batch_1",
        endpoint="/v1/responses",
        input_file_id="file-1",
        completion_window="24h",
        metadata=None,
        output_expires_after_seconds=None,
        created_at=1000.9,
        expires_at=1000.9 + 86_400,
        delays=Delays(in_progress=10),
        outcome=Outcome(),
        status=status,
    )
    for name, value in fields.items():
        setattr(record, name, value)
    return record


@pytest.mark.parametrize("source", Status)
@pytest.mark.parametrize("target", Status)
def test_only_the_transitions_of_the_table_are_possible(source: Status, target: Status) -> None:
    record = batch(source)
    if target in TRANSITIONS[source]:
        record.enter(target, 5.0)
        assert (record.status, record.times) == (target, {target: 5.0})
    else:
        with pytest.raises(ValueError, match="cannot go from"):
            record.enter(target, 5.0)


def test_terminal_statuses_lead_nowhere() -> None:
    assert {Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED} == TERMINAL


def test_the_window_is_exact_in_whole_seconds() -> None:
    shown = batch_object(batch(), 1001)
    assert shown["expires_at"] - shown["created_at"] == 86_400


def test_the_counts_grow_while_a_batch_is_in_progress() -> None:
    record = batch(Status.IN_PROGRESS, times={Status.IN_PROGRESS: 1000.0}, total=50)
    counts = [batch_object(record, now)["request_counts"]["completed"] for now in (1000, 1004, 1010, 1999)]
    assert counts == [0, 20, 50, 50]


def test_shown_fields_are_replaced_by_status() -> None:
    show: dict[str, dict[str, Any]] = {"*": {"request_counts": None}, "in_progress": {"status": "paused"}}
    record = batch(outcome=Outcome(show=show))
    assert batch_object(record, 0)["status"] == "validating"
    assert batch_object(record, 0)["request_counts"] is None
    record.enter(Status.IN_PROGRESS, 5)
    assert batch_object(record, 6)["status"] == "paused"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"nothing", None, None),
        (b"[]", None, None),
        (b"{}", "input_file_id", "missing_required_parameter"),
        (b'{"input_file_id":1}', "input_file_id", "invalid_type"),
        (b'{"input_file_id":"f","endpoint":"/v1/x"}', "endpoint", "invalid_value"),
        (b'{"input_file_id":"f","endpoint":"/v1/responses"}', "completion_window", "missing_required_parameter"),
    ],
)
def test_a_create_names_its_first_bad_parameter(body: bytes, param: str | None, code: str | None) -> None:
    with pytest.raises(ApiError) as raised:
        parse_batch_params(body)
    error = raised.value.body["error"]
    assert (raised.value.status, error["param"], error["code"]) == (400, param, code)
