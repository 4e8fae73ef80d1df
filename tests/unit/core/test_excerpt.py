from typing import Any

import pytest

from penstock.core.excerpt import excerpt, shortened


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"choices": [{"message": {"content": "yes"}}]}, "yes"),
        ({"choices": [{"text": "and so on"}]}, "and so on"),
        ({"output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "yes"}]}]}, "yes"),
        ({"data": [{"embedding": [0.12345, -1, 2, 3]}]}, "a vector: 0.123, -1.000, 2.000, …"),
        ({"results": [{"flagged": True}]}, "flagged"),
        ({"results": [{"flagged": False}]}, "not flagged"),
        ({"error": {"message": "No."}}, "No."),
        ({"choices": []}, '{"choices": []}'),
        ({"data": [{"embedding": "AAAA"}]}, '{"data": [{"embedding": "AAAA"}]}'),
    ],
)
def test_the_heart_of_every_kind_of_answer(body: dict[str, Any], said: str) -> None:
    assert excerpt(body) == said


def test_long_texts_are_cut_and_lines_are_joined() -> None:
    assert shortened("a\n  b") == "a b"
    assert shortened("x" * 100, 10) == "x" * 9 + "…"
