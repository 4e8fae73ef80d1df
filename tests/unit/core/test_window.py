import uuid
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.lane import EMBEDDINGS, LanePolicy
from penstock.core.window import (
    NOTHING,
    PROBE_REQUESTS,
    WINDOWS_PER_SEAL,
    ChunkSummary,
    Part,
    Sealed,
    SealReason,
    Size,
    WindowLimits,
    creates_allowed,
    fill,
    limits_of,
    seal,
)

ROOMY = WindowLimits(requests=1000, bytes=10**9, inputs=10**6, tokens=None)
Sizes = dict[uuid.UUID, list[Size]]


def total(sizes: Sequence[Size]) -> Size:
    size = NOTHING
    for each in sizes:
        size = size.plus(each)
    return size


def chunk(requests: int, *, age: float = 0.0, number: int = 1) -> ChunkSummary:
    """A chunk of requests of 10 bytes, 5 tokens and 1 input."""
    return ChunkSummary(uuid.UUID(int=number), 0, Size(requests, requests * 10, requests * 5, requests), age)


def uniform(_: uuid.UUID) -> list[Size]:
    return [Size(1, 10, 5, 1)] * 10_000


def never(_: uuid.UUID) -> list[Size]:
    raise AssertionError("no chunk needs cutting")


@st.composite
def lanes(draw: st.DrawFn) -> tuple[list[ChunkSummary], Sizes, WindowLimits]:
    """Chunks, some of them taken in part, and limits that some requests are over."""
    request = st.builds(Size, st.just(1), st.integers(1, 30), st.integers(0, 30), st.integers(1, 8))
    chunks, sizes = [], {}
    for number in range(draw(st.integers(0, 5))):
        chunk_id = uuid.UUID(int=number)
        sizes[chunk_id] = draw(st.lists(request, min_size=1, max_size=8))
        taken = draw(st.integers(0, len(sizes[chunk_id]) - 1))
        chunks.append(ChunkSummary(chunk_id, taken, total(sizes[chunk_id][taken:]), draw(st.floats(0, 100))))
    limits = WindowLimits(
        draw(st.integers(1, 10)),
        draw(st.integers(1, 60)),
        draw(st.integers(1, 10)),
        draw(st.none() | st.integers(1, 60)),
    )
    return chunks, sizes, limits


def members(windows: Sequence[Sealed]) -> list[tuple[uuid.UUID, int]]:
    return [
        (part.chunk_id, part.first + offset)
        for window in windows
        for part in window.parts
        for offset in range(part.requests)
    ]


@given(lanes())
@settings(deadline=None)
def test_every_request_is_in_exactly_one_window_in_order(
    lane: tuple[list[ChunkSummary], Sizes, WindowLimits],
) -> None:
    chunks, sizes, limits = lane
    windows = fill(chunks, limits, sizes.__getitem__)
    wanted = [(each.id, index) for each in chunks for index in range(each.taken, len(sizes[each.id]))]
    assert members(windows) == wanted


@given(lanes())
@settings(deadline=None)
@pytest.mark.outcome("limit-requests", "limit-bytes", "limit-inputs")
def test_no_window_is_over_a_limit_but_a_single_request_alone(
    lane: tuple[list[ChunkSummary], Sizes, WindowLimits],
) -> None:
    chunks, sizes, limits = lane
    for window in fill(chunks, limits, sizes.__getitem__):
        assert window.size == total([sizes[chunk_id][index] for chunk_id, index in members([window])])
        assert window.size.requests == 1 or limits.broken_by(window.size) is None


@given(lanes())
@settings(deadline=None)
def test_a_window_that_is_closed_by_a_limit_has_no_room_for_the_next_request(
    lane: tuple[list[ChunkSummary], Sizes, WindowLimits],
) -> None:
    chunks, sizes, limits = lane
    windows = fill(chunks, limits, sizes.__getitem__)
    for window, following in pairwise(windows):
        chunk_id, index = members([following])[0]
        assert limits.broken_by(window.size.plus(sizes[chunk_id][index]))
        assert window.reason is not SealReason.AGE


@given(lanes(), st.floats(0, 100), st.booleans())
@settings(deadline=None)
def test_only_the_unfinished_window_waits(
    lane: tuple[list[ChunkSummary], Sizes, WindowLimits], age_max_seconds: float, flush: bool
) -> None:
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
    sizes = [Size(1, 1000, 250, 1)] * 5000
    chunks = [ChunkSummary(uuid.UUID(int=1), 0, total(sizes), 0.0)]
    windows = fill(chunks, limits, lambda _: sizes)
    assert sum(window.size.requests for window in windows) == 5000
    assert all(window.size.tokens * 1.15 <= 90_000 / 4 for window in windows)


def test_limits_in_force() -> None:
    policy = LanePolicy(requests_max=1000, inputs_max=500, enqueued_tokens_max=46_000)
    assert limits_of(policy, EMBEDDINGS, 1, 1.0, probe=False) == WindowLimits(1000, 200_000_000, 500, 10_000)
    assert limits_of(policy, "/v1/responses", None, 2.0, probe=True) == WindowLimits(
        PROBE_REQUESTS, 200_000_000, 1000, 5_000
    )
    unset = LanePolicy()
    assert limits_of(unset, EMBEDDINGS, None, 1.0, probe=False).tokens is None
    assert limits_of(unset, EMBEDDINGS, 46_000, 1.0, probe=False).tokens == 10_000
    assert limits_of(unset, EMBEDDINGS, 1, 20.0, probe=False).tokens == 1


@pytest.mark.parametrize("per_hour", [1, 2, 7, 100, 2000])
@pytest.mark.parametrize("lag_seconds", [0, 30, 900])
def test_sealing_by_age_stays_within_the_creates_of_any_hour(per_hour: int, lag_seconds: int) -> None:
    """A thousand lanes are due all the time; what is sealed is created after a lag."""
    created: deque[int] = deque()
    waiting: deque[int] = deque()
    last_at, most, sealed = 0, 0, 0
    for now in range(3 * 3600 + 1):
        while waiting and waiting[0] <= now - lag_seconds:
            created.append(now)
            waiting.popleft()
        while created and created[0] <= now - 3600:
            created.popleft()
        allowed = min(1000, creates_allowed(len(created), len(waiting), per_hour, now - last_at))
        assert allowed >= 0
        if allowed:
            last_at = now
            waiting.extend([now] * allowed)
            sealed += allowed
        most = max(most, len(created) + len(waiting))
    assert most <= per_hour
    assert sealed >= per_hour


def test_half_of_the_creates_are_free_and_the_rest_is_paced() -> None:
    assert creates_allowed(0, 0, 2000, 0) == 1000
    assert creates_allowed(600, 399, 2000, 0) == 1
    assert creates_allowed(600, 400, 2000, 0.5) == 0
    assert creates_allowed(600, 400, 2000, 18.0) == 10
    assert creates_allowed(1000, 995, 2000, 3600.0) == 5
    assert creates_allowed(1500, 600, 2000, 3600.0) == 0
