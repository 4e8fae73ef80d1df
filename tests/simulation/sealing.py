"""Intake and sealer: messages become chunks, chunks become batches."""

import uuid

from penstock.core import batch, gathering, window
from penstock.core.batch import BatchState, Verdict
from penstock.core.lane import DEAD_LETTERS, LaneKey
from penstock.core.request import RequestLimits
from penstock.core.window import NOTHING, Part, Sealed, SealReason, WindowLimits
from tests.simulation.scenario import ACCOUNT
from tests.simulation.world import Chunk, Lane, World

SOURCE = gathering.Source("cluster", "requests", uuid.UUID(int=7))
OPEN = (BatchState.SEALED, BatchState.CREATING, BatchState.SUBMITTED, BatchState.ENDED)

Aged = tuple[float, int, int, Lane, list[Chunk], WindowLimits]
"""A window due by age: how long it is over it, and how full it is, both negative; its lane's number; the lane."""


def take_in(world: World) -> None:
    """Store what has arrived."""
    polls = world.scenario.polls
    while world.polled < len(polls) and polls[world.polled][0] <= world.now:
        rules = gathering.Rules(
            ACCOUNT, world.scenario.lanes, RequestLimits(), "results", "dead-letters", frozenset({"results"})
        )
        gathered = gathering.Gathering(rules, world.now)
        messages = polls[world.polled][1]
        gathered.sort(SOURCE, messages)
        numbers = {key: number for number, key in enumerate(dict.fromkeys(key for key, _ in gathered.groups))}
        keys: list[LaneKey] = list(numbers)
        for message in messages:
            world.judge.arrive(message.offset, world.now)
        for number, chunk in gathered.pack(numbers):
            world.store(world.lane(keys[number]), chunk, 0.0)
        world.polled += 1


def seal(world: World) -> None:
    """A round of the sealer."""
    due: list[tuple[Lane, list[Chunk], WindowLimits]] = []
    aged: list[Aged] = []
    for number, lane in enumerate(world.lanes.values()):
        if not lane.chunks:
            continue
        quota = world.quota(lane.key.model)
        probe = lane.probing_at is not None
        limits = window.limits_of(lane.policy, lane.key.endpoint, quota.learned_limit, quota.factor, probe=probe)
        answer_overdue(world, lane, limits)
        chunks = [each for each in lane.chunks if each.not_before <= world.now]
        if not chunks or lane.halted or probe_runs(world, lane):
            continue
        size = window.total(each.left for each in chunks)
        age = max(world.now - max(each.created_at, each.not_before) for each in chunks) - lane.policy.age_max_seconds
        if lane.key.dead or limits.reached_by(size):
            due.append((lane, chunks, limits))
        elif age >= 0:
            aged.append((-age, -size.requests, number, lane, chunks, limits))
    if aged:
        aged.sort()
        due += [(lane, chunks, limits) for *_, lane, chunks, limits in affordable(world, aged)]
    for lane, chunks, limits in due:
        seal_lane(world, lane, chunks, limits)


def affordable(world: World, aged: list[Aged]) -> list[Aged]:
    """Of the windows due by age, those that the creates budget covers."""
    waiting = sum(each.state is BatchState.SEALED for each in world.reservations)
    since = world.now - world.sealed_by_age_at
    budget = world.scenario.creates_per_hour
    chosen = aged[: window.creates_allowed(world.creates_of_hour(), waiting, budget, since)]
    if chosen:
        world.sealed_by_age_at = world.now
    return chosen


def probe_runs(world: World, lane: Lane) -> bool:
    """Whether a probing lane's probe is under way."""
    since = lane.probing_at
    return since is not None and any(
        each.lane is lane and each.state in OPEN and each.sealed_at >= since for each in world.live
    )


def answer_overdue(world: World, lane: Lane, limits: WindowLimits) -> None:
    """Seal what has passed its deadline unsealed, with a verdict where it has (W6)."""
    if lane.key.dead:
        return
    overdue = [each for each in lane.chunks if each.deadline_at <= world.now]
    if not overdue:
        return
    parts = [Part(each.id, each.taken, each.left.requests) for each in overdue]
    for chunk in overdue:
        chunk.taken, chunk.left = len(chunk.sizes), NOTHING
        lane.chunks.remove(chunk)
    for piece, verdict in batch.split_by_deadline(parts, world.deadlines_of, world.now):
        if verdict is not None:
            world.insert(lane, Sealed(tuple(piece), world.measure(piece), SealReason.SPLIT), verdict)
            continue
        for sealed in window.cut(piece, limits, world.sizes_of):
            world.insert(lane, sealed)


def seal_lane(world: World, lane: Lane, chunks: list[Chunk], limits: WindowLimits) -> None:
    """One transaction: plan, take, write."""
    sealed = window.seal(
        [each.summary(world.now) for each in chunks],
        limits,
        world.sizes_of,
        age_max_seconds=lane.policy.age_max_seconds,
        flush=lane.key.dead,
    )
    if lane.probing_at is not None:
        sealed = sealed[:1]
    for each in sealed:
        world.judge.sealed(each, limits)
        for part in each.parts:
            chunk = world.chunks[part.chunk_id]
            assert part.first == chunk.taken
            chunk.taken += part.requests
            chunk.left = window.total(chunk.sizes[chunk.taken :])
            if chunk.taken == len(chunk.sizes):
                lane.chunks.remove(chunk)
        world.insert(lane, each, Verdict("rejected", "") if lane.key == DEAD_LETTERS else None)
