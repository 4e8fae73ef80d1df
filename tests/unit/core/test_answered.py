from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock.core.answered
from penstock.core.answered import NOTHING_ANSWERED, Answered, AnsweredSpan, Gatherer, has, merged
from penstock.core.identity import Origin

OFFSETS = st.lists(st.integers(0, 60))


@given(OFFSETS, OFFSETS)
def test_spans_hold_exactly_the_offsets_that_came_and_never_touch(first: list[int], second: list[int]) -> None:
    spans = merged(
        [*merged(AnsweredSpan(each, each) for each in first), *(AnsweredSpan(each, each) for each in second)]
    )
    assert [each for each in range(-1, 62) if has(spans, each)] == sorted({*first, *second})
    assert all(left.last + 1 < right.first for left, right in pairwise(spans))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10))))
def test_overlapping_spans_are_one(given_: list[tuple[int, int]]) -> None:
    wide = [AnsweredSpan(first, first + more) for first, more in given_]
    inside = {each for span in wide for each in range(span.first, span.last + 1)}
    assert {each for each in range(60) if has(merged(wide), each)} == inside


def test_what_is_gathered_is_answered_and_nothing_else_however_little_is_kept_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(penstock.core.answered, "OFFSETS_MAX", 3)
    topic, gatherer = b"t" * 16, Gatherer()
    for offset in (5, 1, 9, 2, 3, 2, 8):
        gatherer.add(Origin(topic, 0, 0, offset))
    answered = gatherer.answered()
    assert answered.of(topic, 0, 0) == [(1, 3), (5, 5), (8, 9)]
    assert answered.requests == 6
    assert Origin(topic, 0, 0, 2) in answered
    others = [Origin(topic, 0, 0, 4), Origin(topic, 1, 0, 2), Origin(topic, 0, 1, 2), Origin(b"u" * 16, 0, 0, 2)]
    assert not any(each in answered for each in others)


def test_nothing_is_answered_unless_postgres_was_restored() -> None:
    assert not NOTHING_ANSWERED
    assert Origin(b"", 0, 0, 0) not in NOTHING_ANSWERED
    assert Answered({(b"t", 0, 0): [AnsweredSpan(0, 0)]})


def test_the_last_incarnation_that_has_an_answer_is_told_with_its_first_one() -> None:
    log, other = b"t" * 16, b"u" * 16
    spans = {(log, 0, 0): [(0, 9)], (log, 0, 2): [(7, 7), (9, 9)], (log, 1, 3): [(1, 1)], (other, 0, 4): [(1, 1)]}
    answered = Answered({place: [AnsweredSpan(*each) for each in found] for place, found in spans.items()})
    assert answered.latest(log, 0) == (2, 7)
    assert answered.latest(log, 1) == (3, 1)
    assert answered.latest(other, 1) == (0, 0)
