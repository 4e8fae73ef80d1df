import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.quota import NOTHING_RESERVED, Ahead, Reserved, Waiting, due_ahead, grants, learned_limit

WORDS = (
    "Enqueued token limit reached for gpt-4o in organization org-1. Limit: {} enqueued tokens. "
    "Please try again once some in_progress batches have been completed."
)


def batches(*tokens: int) -> list[Waiting]:
    return [Waiting(uuid.UUID(int=number), each) for number, each in enumerate(tokens, 1)]


def held(tokens: int, batches: int = 1, unproven: int = 0) -> Reserved:
    return Reserved(tokens, batches if tokens else 0, unproven)


def test_without_a_limit_one_batch_at_a_time_asks_whether_there_is_room() -> None:
    waiting = batches(10**9, 1)
    assert grants(waiting, NOTHING_RESERVED, None, probing=False) == waiting[:1]
    assert grants(waiting, held(10**9, 5, unproven=1), None, probing=False) == []
    assert grants(waiting, held(10**9, 5), None, probing=False) == waiting[:1]


def test_the_oldest_go_first_and_the_first_that_does_not_fit_holds_back_the_younger() -> None:
    waiting = batches(40, 50, 1)
    assert grants(waiting, held(20), 100, probing=False) == waiting[:1]
    assert grants(waiting, held(9), 100, probing=False) == waiting
    assert grants(waiting, held(100), 100, probing=False) == []


def test_a_batch_over_the_whole_limit_goes_alone_on_an_idle_model() -> None:
    waiting = batches(500, 1)
    assert grants(waiting, NOTHING_RESERVED, 100, probing=False) == waiting[:1]
    assert grants(waiting, held(1), 100, probing=False) == []


def test_a_limit_that_was_hit_and_not_named_is_probed_by_one_batch_alone() -> None:
    waiting = batches(10, 10)
    assert grants(waiting, NOTHING_RESERVED, None, probing=True) == waiting[:1]
    assert grants(waiting, held(10), None, probing=True) == []
    assert grants(waiting, NOTHING_RESERVED, 100, probing=True) == waiting


@given(st.lists(st.integers(1, 60), max_size=8), st.integers(0, 120), st.integers(1, 100))
def test_what_is_granted_stays_within_the_limit(tokens: list[int], enqueued: int, limit: int) -> None:
    waiting = batches(*tokens)
    granted = grants(waiting, held(enqueued), limit, probing=False)
    assert granted == waiting[: len(granted)]
    total = enqueued + sum(each.tokens for each in granted)
    assert not granted or total <= limit or (enqueued == 0 and len(granted) == 1)


@pytest.mark.parametrize(
    ("number", "limit"), [("90000", 90_000), ("90,000", 90_000), ("1,350,000", 1_350_000), ("2_000_000", 2_000_000)]
)
def test_a_limit_is_learned_from_the_words_of_a_refusal(number: str, limit: int) -> None:
    assert learned_limit(WORDS.format(number)) == limit


@pytest.mark.parametrize("message", ["", "Enqueued token limit reached.", "Limit: many enqueued tokens", "Limit: 5"])
def test_other_words_name_no_limit(message: str) -> None:
    assert learned_limit(message) is None


def test_windows_are_sealed_until_they_fill_the_next_load() -> None:
    windows = [(1, 25)] * 9
    assert due_ahead(windows, {}, 100, 1 / 1.15) == 4
    assert due_ahead(windows, {1: Ahead(1, 80)}, 100, 1 / 1.15) == 1
    assert due_ahead(windows, {1: Ahead(1, 100)}, 100, 1 / 1.15) == 0
    assert due_ahead(windows, {1: Ahead(1, 50)}, 100, 2 / 1.15) == 0, "real tokens count"
    assert due_ahead([(1, 10**9)], {}, 100, 1.0) == 1, "what is over the limit is sealed to go alone"


def test_while_a_limit_is_not_known_two_batches_stand_ready() -> None:
    assert due_ahead([(1, 25)] * 9, {}, None, 1.0) == 2
    assert due_ahead([(1, 25)] * 9, {1: Ahead(1, 10**9)}, None, 1.0) == 1


def test_what_has_a_lower_priority_is_overtaken_and_does_not_count() -> None:
    ahead = {1: Ahead(5, 500), 2: Ahead(9, 900)}
    assert due_ahead([(0, 25), (1, 25)], ahead, 100, 1.0) == 1
    assert due_ahead([(0, 25), (0, 25), (0, 25)], {**ahead, 0: Ahead(1, 25)}, None, 1.0) == 1
    assert due_ahead([(2, 25)], {2: Ahead(0, 0), 1: Ahead(4, 100)}, 100, 1.0) == 0, "what has a higher one counts"
