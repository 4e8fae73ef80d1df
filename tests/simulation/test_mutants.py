"""The simulation can fail: each of these faults, put into the core or a store's transaction, is found by a seed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from penstock.core import batch, decision, filling, quota, requeue, window
from penstock.core.publication import Publication
from penstock.core.window import Part
from tests.simulation import submitting
from tests.simulation.run import simulate
from tests.simulation.world import World

SEEDS = 300
Original = Callable[..., Any]


def no_limit(_: Original) -> Original:
    return lambda waiting, *_, **__: list(waiting)


def youngest_first(original: Original) -> Original:
    return lambda waiting, *args, **options: original(list(reversed(waiting)), *args, **options)


def one_too_many(original: Original) -> Original:
    def longest_prefix(sizes: filling.Sizes, rest: filling.Rest, *rooms: window.WindowLimits) -> int:
        return min(int(original(sizes, rest, *rooms)) + 1, rest.left.requests)

    return longest_prefix


def first_come(original: Original) -> Original:
    def fill(chunks: Sequence[window.ChunkSummary], *args: Any) -> Any:
        return original([each._replace(turn=each.turn._replace(share=0)) for each in chunks], *args)

    return fill


def all_equal(original: Original) -> Original:
    def fill(chunks: Sequence[window.ChunkSummary], *args: Any) -> Any:
        return original([each._replace(turn=each.turn._replace(priority=1)) for each in chunks], *args)

    return fill


def served_alike(_: Original) -> Original:
    return lambda *_: 0.0


def all_at_once(_: Original) -> Original:
    return lambda windows, *_: len(windows)


def one_too_far(original: Original) -> Original:
    return lambda parts, first, requests: original(parts, first + 1 if first else 0, requests)


def swapped(original: Original) -> Original:
    def locate(parts: Sequence[Part]) -> Any:
        places = original(parts)
        return {
            chunk: [(first + 1, requests, start) for first, requests, start in each] for chunk, each in places.items()
        }

    return locate


def never_late(original: Original) -> Original:
    return lambda kinds, attempts, attempts_max, expired: original(
        kinds, attempts, attempts_max, [False] * len(expired)
    )


def all_final(original: Original) -> Original:
    def decide(*args: Any) -> decision.Decision:
        decided: decision.Decision = original(*args)
        outcomes = decided.outcomes.replace(bytes([decision.Outcome.RETRY]), bytes([decision.Outcome.OUTPUT]))
        return decision.Decision(decided.format, outcomes)

    return decide


def without_end(original: Original) -> Original:
    return lambda error, *, requests, **_: original(
        replace(error, line=None), requests=requests, lines_lost=0, creates=0
    )


def last_line_wins(original: Original) -> Original:
    def take(self: decision.Reconciliation, file: int, start: int, line: bytes) -> None:
        read = decision.read_line(line)
        position = self.position(read.custom_id) if read else None
        if position is not None:
            self.kinds[position] = 0
        original(self, file, start, line)

    return take


def one_id(original: Original) -> Original:
    def renamed(self: requeue.Requeue, line: bytes) -> bytes:
        renamed: bytes = original(self, line)
        return renamed.replace(b"-%d" % len(self.lines), b"-0", 1)

    return renamed


def from_one(original: Original) -> Original:
    def records(self: Publication, manifest: Any, part: Any, start: int, first: int, *args: Any) -> Any:
        return original(self, manifest, part, start, first + (first > 0), *args)

    return records


def kept(_: Original) -> Original:
    return lambda *_: None


def decided_at_once(original: Original) -> Original:
    def look_up(world: World, each: Any, intent: Any) -> None:
        intent.at -= submitting.DOUBT_SECONDS
        original(world, each, intent)

    return look_up


def unlimited(_: Original) -> Original:
    return lambda _: 0


def backwards(_: Original) -> Original:
    return lambda _: 0


def early_too(original: Original) -> Original:
    return lambda parts, deadlines_of, now: original(
        parts, lambda chunk: [each - 600 for each in deadlines_of(chunk)], now
    )


def unbounded(original: Original) -> Original:
    return lambda *args, **options: replace(original(*args, **options), bytes=10**12)


MUTANTS: list[tuple[Any, str, Callable[[Original], Original]]] = [
    (quota, "grants", no_limit),
    (quota, "grants", youngest_first),
    (filling, "longest_prefix", one_too_many),
    (filling, "fill", first_come),
    (filling, "fill", all_equal),
    (filling, "part_of", served_alike),
    (quota, "due_ahead", all_at_once),
    (window, "limits_of", unbounded),
    (batch, "positions", one_too_far),
    (batch, "locate", swapped),
    (batch, "remedy", without_end),
    (batch, "rank", backwards),
    (batch, "split_by_deadline", early_too),
    (decision, "decide", never_late),
    (decision, "decide", all_final),
    (decision.Reconciliation, "take", last_line_wins),
    (requeue.Requeue, "renamed", one_id),
    (Publication, "records", from_one),
    (World, "release", kept),
    (World, "creates_of_hour", unlimited),
    (submitting, "look_up", decided_at_once),
]


@pytest.mark.parametrize(("owner", "name", "mutant"), MUTANTS, ids=lambda each: getattr(each, "__name__", str(each)))
def test_the_simulation_notices(
    owner: Any, name: str, mutant: Callable[[Original], Original], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, mutant(getattr(owner, name)))
    assert any(simulate(seed).failure is not None for seed in range(SEEDS))
