import json
from typing import Any

import pytest

from penstock.cli.ask import answered


@pytest.mark.parametrize(
    ("response", "model_answered"),
    [
        ({"status_code": 200}, True),
        ({"status_code": "200"}, True),
        ({"status_code": 400}, False),
        ({}, False),
        (None, False),
        ("", False),
    ],
)
def test_a_result_is_an_answer_by_its_status_in_whatever_type(response: Any, *, model_answered: bool) -> None:
    assert answered(json.dumps({"custom_id": "a", "response": response}).encode()) is model_answered
