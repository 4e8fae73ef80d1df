import ast
import json
from collections import Counter

import pytest

from penstock.core.errors import RejectedMessage
from penstock.core.request import RequestLimits, parse_request
from penstock.demo.corpus import REQUESTS_MIN, broken_lines, definitions, request_lines, said_of, subjects


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return list(request_lines(subjects()))


def test_there_are_over_ten_thousand_requests_and_each_is_valid(lines: list[bytes]) -> None:
    assert len(lines) >= REQUESTS_MIN > 10_000
    lanes = Counter((each.url, each.model) for each in (parse_request(line, RequestLimits()) for line in lines))
    assert len(lanes) == 5
    assert min(lanes.values()) > 400


def test_no_two_requests_have_the_same_id(lines: list[bytes]) -> None:
    assert len({json.loads(line)["custom_id"] for line in lines}) == len(lines)


def test_each_broken_message_is_refused_for_a_reason_of_its_own() -> None:
    codes = set()
    for line in broken_lines():
        with pytest.raises(RejectedMessage) as refused:
            parse_request(line, RequestLimits())
        codes.add(refused.value.code)
    assert len(codes) == len(broken_lines())


SOURCE = '''"""A module."""
class Thing:
    def documented(self):
        """What it does."""
        def local(): ...

    async def bare(self, number):
        # A comment.
        return number

if True:
    def conditional(): pass
'''


def test_definitions_tell_their_docstring_or_their_signature_and_comments() -> None:
    texts = {name: said_of(node, SOURCE.splitlines()) for name, node in definitions("m", ast.parse(SOURCE))}
    assert texts == {
        "m": "A module.",
        "m.Thing": "class Thing:\n# A comment.",
        "m.Thing.documented": "What it does.",
        "m.Thing.bare": "    async def bare(self, number):\n        # A comment.",
        "m.conditional": "    def conditional(): pass",
    }
