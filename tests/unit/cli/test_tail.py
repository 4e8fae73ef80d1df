import json
from typing import Any

import pytest

from penstock.cli.tail import lines_of, parsed


def result(**members: Any) -> Any:
    return {"custom_id": "a", "response": None, "error": None, **members}


@pytest.mark.parametrize(
    ("value", "headers", "said"),
    [
        (
            result(response={"status_code": 200, "body": {"choices": [{"message": {"content": "two\nlines"}}]}}),
            {},
            ("a", "200 two lines"),
        ),
        (
            result(response={"status_code": 400, "body": {"error": {"message": "No such model"}}}),
            {},
            ("a", "400 No such model"),
        ),
        (
            result(error={"code": "deadline_exceeded", "message": "Too late."}),
            {},
            ("a", "deadline_exceeded: Too late."),
        ),
        (result(response={"status_code": "200", "body": "text"}), {}, ("a", "200 text")),
        (result(response="", error="no such model"), {}, ("a", "error: no such model")),
        (
            "no JSON",
            {
                "penstock.error.code": "invalid_json",
                "penstock.error.reason": "Not JSON.",
                "penstock.origin.partition": "1",
            },
            ("-", "invalid_json: Not JSON. (from 1@None)"),
        ),
    ],
)
def test_a_record_is_told_in_a_line(value: Any, headers: dict[str, str], said: tuple[str, str]) -> None:
    assert lines_of(value, headers) == said


@pytest.mark.parametrize(("value", "read"), [(None, None), (b"{", "{"), (b"\xff", "\ufffd"), (b"[1]", [1])])
def test_values_are_json_or_what_they_are(value: bytes | None, read: Any) -> None:
    assert parsed(value) == read
    json.dumps(parsed(value))
