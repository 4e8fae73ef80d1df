import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.filling import TURNS, WINDOWS_PER_SEAL, Sizes, fill, part_of, seal
from penstock.core.lane import LanePolicy
from penstock.core.turn import SHARES, USUAL, Priority, Turn
from penstock.core.window import NOTHING, ChunkSummary, Part, Sealed, SealReason, Size, WindowLimits, limits_of, total

ROOMY = WindowLimits(requests=1000, bytes=10**9, inputs=10**6, tokens=None)
TIGHT = WindowLimits(requests=640, bytes=10**9, inputs=10**6, tokens=None)


def chunk(requests: int, *, age: float = 0.0, number: int = 1, turn: Turn = USUAL) -> ChunkSummary:
    """A chunk of requests of 10 bytes, 5 tokens and 1 input."""
    return ChunkSummary(uuid.UUID(int=number), 0, Size(requests, requests * 10, requests * 5, requests), age, turn)


EVEN = Sizes([Size(1, 10, 5, 1)] * 10_000)


def uniform(_: uuid.UUID) -> Sizes:
    return EVEN


def never(_: uuid.UUID) -> Sizes:
    raise AssertionError("no chunk needs cutting")


class Lane(NamedTuple):
    """Chunks, some of them taken in part, and limits that some requests are over."""

    chunks: list[ChunkSummary]
    sizes: dict[uuid.UUID, Sizes]
    limits: WindowLimits

    def fill(self, toss: Callable[[], float] = float) -> list[Sealed]:
        return fill(self.chunks, self.limits, self.sizes.__getitem__, None, toss)

    def turn(self, chunk_id: uuid.UUID) -> Turn:
        return next(each.turn for each in self.chunks if each.id == chunk_id)

    def waiting(self) -> list[tuple[uuid.UUID, int]]:
        """Every request, by chunk and index, in order."""
        return [(each.id, index) for each in self.chunks for index in range(each.taken, len(self.sizes[each.id]))]


@st.composite
def lanes(draw: st.DrawFn, shares: int = 3, priorities: int = 3) -> Lane:
    request = st.builds(Size, st.just(1), st.integers(1, 30), st.integers(0, 30), st.integers(1, 8))
    chunks, sizes = [], {}
    for number in range(draw(st.integers(0, 5))):
        chunk_id = uuid.UUID(int=number)
        sizes[chunk_id] = Sizes(draw(st.lists(request, min_size=1, max_size=8)))
        taken = draw(st.integers(0, len(sizes[chunk_id]) - 1))
        turn = Turn(draw(st.integers(0, priorities - 1)), draw(st.integers(0, shares - 1)))
        chunks.append(ChunkSummary(chunk_id, taken, total(sizes[chunk_id][taken:]), draw(st.floats(0, 100)), turn))
    limits = WindowLimits(
        draw(st.integers(1, 10)),
        draw(st.integers(1, 60)),
        draw(st.integers(1, 10)),
        draw(st.none() | st.integers(1, 60)),
    )
    return Lane(chunks, sizes, limits)


def members(windows: Sequence[Sealed]) -> list[tuple[uuid.UUID, int]]:
    return [
        (part.chunk_id, part.first + offset)
        for window in windows
        for part in window.parts
        for offset in range(part.requests)
    ]


@given(lanes(), st.randoms())
def test_every_request_is_in_exactly_one_window_and_those_of_a_share_in_order(
    lane: Lane, chance: random.Random
) -> None:
    filled = members(lane.fill(chance.random))
    assert sorted(filled) == sorted(lane.waiting())
    for turn in {each.turn for each in lane.chunks}:
        assert [each for each in filled if lane.turn(each[0]) == turn] == [
            each for each in lane.waiting() if lane.turn(each[0]) == turn
        ]


@given(lanes(shares=1, priorities=1))
def test_where_all_are_alike_the_order_is_that_of_the_chunks(lane: Lane) -> None:
    assert members(lane.fill()) == lane.waiting()


@given(lanes(), st.randoms())
@pytest.mark.outcome("limit-requests", "limit-bytes", "limit-inputs")
def test_no_window_is_over_a_limit_but_a_single_request_alone(lane: Lane, chance: random.Random) -> None:
    for window in lane.fill(chance.random):
        assert window.size == total(lane.sizes[chunk_id][index] for chunk_id, index in members([window]))
        assert window.size.requests == 1 or lane.limits.broken_by(window.size) is None


@given(lanes(), st.randoms())
def test_a_window_that_is_closed_by_a_limit_has_no_room_for_whoever_is_next(lane: Lane, chance: random.Random) -> None:
    windows = lane.fill(chance.random)
    for number, window in enumerate(windows[:-1]):
        left = members(windows[number + 1 :])
        first = min(lane.turn(chunk_id).priority for chunk_id, _ in left)
        following = {lane.turn(each[0]).share: each for each in reversed(left) if lane.turn(each[0]).priority == first}
        sizes = [lane.sizes[chunk_id][index] for chunk_id, index in following.values()]
        assert any(lane.limits.broken_by(window.size.plus(size)) for size in sizes)
        assert window.reason is not SealReason.AGE


@given(lanes(), st.randoms())
def test_nothing_goes_before_what_has_a_higher_priority(lane: Lane, chance: random.Random) -> None:
    windows = lane.fill(chance.random)
    for earlier, later in pairwise(windows):
        last = max(lane.turn(chunk_id).priority for chunk_id, _ in members([earlier]))
        assert last <= min(lane.turn(chunk_id).priority for chunk_id, _ in members([later]))


@given(lanes(priorities=1), st.randoms())
def test_no_share_has_more_of_a_window_than_one_that_waits_but_for_its_last_turn(
    lane: Lane, chance: random.Random
) -> None:
    windows = lane.fill(chance.random)
    for number, window in enumerate(windows):
        had = dict.fromkeys((each.turn.share for each in lane.chunks), NOTHING)
        turn = 1 / TURNS
        for chunk_id, index in members([window]):
            share, size = lane.turn(chunk_id).share, lane.sizes[chunk_id][index]
            had[share], turn = had[share].plus(size), max(turn, part_of(size, lane.limits))
        for share in {lane.turn(chunk_id).share for chunk_id, _ in members(windows[number + 1 :])}:
            least = part_of(had[share], lane.limits)
            assert all(part_of(each, lane.limits) <= least + turn + 1e-9 for each in had.values())


def test_who_sends_little_waits_for_nobody_who_sent_much_before() -> None:
    """Shares of a window are equal, and what one leaves the others have."""
    much, little, more = (chunk(5000, number=number, turn=Turn(1, number)) for number in (1, 2, 3))
    little = chunk(40, number=2, turn=Turn(1, 2))
    windows = fill([much, much._replace(id=uuid.UUID(int=4)), little, more], TIGHT, uniform)
    taken = {part.chunk_id.int: part.requests for part in windows[0].parts}
    assert taken[2] == 40
    assert sum(taken.values()) == TIGHT.requests
    assert abs(taken[1] - taken[3]) <= TIGHT.requests / TURNS


def test_where_a_window_has_room_for_one_each_has_its_turn_in_time() -> None:
    chance = random.Random(7)
    shares = [chunk(100, number=number, turn=Turn(1, number)) for number in range(4)]
    windows = fill(shares, WindowLimits(1, 10**9, 10**6, None), uniform, 100, chance.random)
    counts = Counter(part.chunk_id for window in windows for part in window.parts)
    assert all(10 < counts[each.id] < 40 for each in shares)


def test_a_high_priority_goes_first_and_a_low_one_last_whoever_came_first() -> None:
    low, usual, high = (
        chunk(100, number=number, turn=Turn(priority, number))
        for number, priority in ((1, Priority.LOW), (2, Priority.NORMAL), (3, Priority.HIGH))
    )
    windows = fill([low, usual, high], WindowLimits(150, 10**9, 10**6, None), uniform)
    assert [[(part.chunk_id.int, part.requests) for part in window.parts] for window in windows] == [
        [(3, 100), (2, 50)],
        [(2, 50), (1, 100)],
    ]


def test_what_is_not_sealed_now_is_not_read() -> None:
    chunks = [chunk(5000, number=number, turn=Turn(1, number % 4)) for number in range(100)]
    asked: set[uuid.UUID] = set()

    def ask(chunk_id: uuid.UUID) -> Sizes:
        asked.add(chunk_id)
        return EVEN

    limits = WindowLimits(20_000, 10**9, 10**6, None)
    (window,) = seal(chunks, limits, ask, age_max_seconds=0, flush=False, windows_max=1)
    assert window.size.requests == 20_000
    assert len(asked) <= 20_000 / 5000 + 2 * 4


def test_dealing_a_full_window_between_many_takes_a_moment() -> None:
    """Ten million requests wait: the work is that of the windows filled, not of what waits."""
    sizes = Sizes([Size(1, 100, 25, 1)] * 5000)
    left = total(sizes)
    chunks = [ChunkSummary(uuid.UUID(int=number), 0, left, 0.0, Turn(1, number % SHARES)) for number in range(2000)]
    limits = limits_of(LanePolicy(), "/v1/responses", None, 1.0, probe=False)
    took: list[float] = []
    while not took or (min(took) >= 1.0 and len(took) < 5):  # a processor that others share is slower for a while
        started = time.process_time()
        windows = fill(chunks, limits, lambda _: sizes, 16)
        took.append(time.process_time() - started)
    assert min(took) < 1.0
    assert [window.size.requests for window in windows] == [50_000] * 16


@given(lanes(), st.floats(0, 100), st.booleans())
def test_only_the_unfinished_window_waits(lane: Lane, age_max_seconds: float, flush: bool) -> None:
    chunks, sizes, limits = lane
    filled = fill(chunks, limits, sizes.__getitem__)
    sealed = seal(chunks, limits, sizes.__getitem__, age_max_seconds=age_max_seconds, flush=flush)
    assert [each.parts for each in sealed] == [each.parts for each in filled[: len(sealed)]]
    assert len(sealed) >= min(len(filled) - 1, WINDOWS_PER_SEAL)
    if len(sealed) < min(len(filled), WINDOWS_PER_SEAL):
        ages = {each.id: each.age_seconds for each in chunks}
        assert not flush
        assert limits.reached_by(filled[-1].size) is None
        assert all(ages[part.chunk_id] < age_max_seconds for part in filled[-1].parts)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (WindowLimits(20, 10**9, 10**6, None), SealReason.REQUESTS),
        (WindowLimits(1000, 200, 10**6, None), SealReason.BYTES),
        (WindowLimits(1000, 10**9, 20, None), SealReason.INPUTS),
        (WindowLimits(1000, 10**9, 10**6, 100), SealReason.TOKENS),
    ],
)
def test_a_full_window_is_sealed_at_once_and_the_rest_waits(limits: WindowLimits, reason: SealReason) -> None:
    chunks = [chunk(15, number=1), chunk(15, number=2)]
    (window,) = seal(chunks, limits, uniform, age_max_seconds=300, flush=False)
    assert window.reason is reason
    assert window.parts == (Part(chunks[0].id, 0, 15), Part(chunks[1].id, 0, 5))


def test_a_window_that_is_exactly_full_does_not_wait_for_more() -> None:
    (window,) = seal([chunk(20)], WindowLimits(20, 10**9, 10**6, None), never, age_max_seconds=300, flush=False)
    assert window.reason is SealReason.REQUESTS


def test_an_unfinished_window_waits_for_age_or_a_flush() -> None:
    young, old = [chunk(5, age=299.9)], [chunk(5, age=300.0)]
    assert seal(young, ROOMY, never, age_max_seconds=300, flush=False) == []
    assert [each.reason for each in seal(old, ROOMY, never, age_max_seconds=300, flush=False)] == [SealReason.AGE]
    assert [each.reason for each in seal(young, ROOMY, never, age_max_seconds=300, flush=True)] == [SealReason.FLUSH]
    assert seal([], ROOMY, never, age_max_seconds=300, flush=True) == []


def test_the_age_of_what_was_sealed_already_does_not_drag_the_rest_along() -> None:
    chunks = [chunk(20, age=999.0, number=1), chunk(5, age=1.0, number=2)]
    sealed = seal(chunks, WindowLimits(20, 10**9, 10**6, None), uniform, age_max_seconds=300, flush=False)
    assert [each.parts for each in sealed] == [(Part(chunks[0].id, 0, 20),)]


def test_a_poll_of_a_lane_with_a_small_token_limit_drains() -> None:
    limits = limits_of(LanePolicy(enqueued_tokens_max=90_000), "/v1/responses", None, 1.0, probe=False)
    sizes = Sizes([Size(1, 1000, 250, 1)] * 5000)
    chunks = [ChunkSummary(uuid.UUID(int=1), 0, total(sizes), 0.0)]
    windows = fill(chunks, limits, lambda _: sizes)
    assert sum(window.size.requests for window in windows) == 5000
    assert all(window.size.tokens * 1.15 <= 90_000 / 4 for window in windows)
