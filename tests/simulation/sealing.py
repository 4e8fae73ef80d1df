"""Intake and sealer: messages become chunks, chunks become batches."""

import uuid

from penstock.core import batch, filling, gathering, quota, token, window
from penstock.core.batch import BatchState, Verdict
from penstock.core.lane import DEAD_LETTERS, LaneKey
from penstock.core.request import RequestLimits
from penstock.core.window import NOTHING, Part, Sealed, SealReason, WindowLimits
from tests.simulation.scenario import ACCOUNT
from tests.simulation.submitting import waiting
from tests.simulation.world import Batch, Chunk, Lane, World

SOURCE = gathering.Source("cluster", "requests", uuid.UUID(int=7))
OPEN = (BatchState.SEALED, BatchState.CREATING, BatchState.SUBMITTED, BatchState.ENDED)

Aged = tuple[float, int, int, Lane, list[Chunk], WindowLimits]
"""A window due by age: how long it is over it, and how full it is, both negative; its lane's number; the lane."""


def take_in(world: World) -> None:
    """Store what has arrived."""
    polls = world.scenario.polls
    while world.polled < len(polls) and polls[world.polled][0] <= world.now:
        rules = gathering.Rules(
            ACCOUNT,
            world.scenario.lanes,
            RequestLimits(),
            "results",
            "dead-letters",
            frozenset({"results"}),
            world.scenario.share_requests,
        )
        gathered = gathering.Gathering(rules, world.now)
        messages = polls[world.polled][1]
        gathered.sort(SOURCE, messages)
        numbers = {key: number for number, key in enumerate(dict.fromkeys(kind.lane for kind in gathered.groups))}
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
        first = min(each.turn.priority for each in chunks)
        full = lane.key.dead or limits.reached_by(size)
        if (full or age >= 0) and not due_ahead(world, lane, [(first, 0)]):
            continue
        if full:
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
        for sealed in filling.cut(piece, limits, world.sizes_of):
            world.insert(lane, sealed)


def sealed_ahead(world: World, lane: Lane) -> dict[int, quota.Ahead]:
    """What is sealed of a lane's model and waits for tokens, by priority."""
    found: dict[int, quota.Ahead] = {}
    for each in waiting_with(world, lane):
        found[each.priority] = found.get(each.priority, quota.NOTHING_AHEAD).plus(quota.Ahead(1, each.size.tokens))
    return found


def waiting_with(world: World, lane: Lane) -> list[Batch]:
    """The batches of a lane's model that wait for tokens."""
    return [each for each in waiting(world) if each.lane.key.model == lane.key.model]


def limit_of(world: World, lane: Lane) -> int | None:
    """The limit of a model as the sealer takes it: also one that was learned long ago."""
    return lane.policy.enqueued_tokens_max or world.quota(lane.key.model).learned_limit


def due_ahead(world: World, lane: Lane, asked: list[tuple[int, int]]) -> int:
    """How many windows of a lane, each given by priority and tokens, may be sealed now."""
    if lane.key.dead:
        return len(asked)
    factor = world.quota(lane.key.model).factor
    return quota.due_ahead(asked, sealed_ahead(world, lane), limit_of(world, lane), factor)


def seal_lane(world: World, lane: Lane, chunks: list[Chunk], limits: WindowLimits) -> None:
    """One transaction: plan, take, write."""
    sealed = filling.seal(
        [each.summary(world.now) for each in chunks],
        limits,
        world.sizes_of,
        age_max_seconds=lane.policy.age_max_seconds,
        flush=lane.key.dead,
        toss=world.chance.random,
    )
    asked = [
        (min(world.chunks[part.chunk_id].turn.priority for part in each.parts), each.size.tokens) for each in sealed
    ]
    sealed = sealed[: 1 if lane.probing_at is not None else due_ahead(world, lane, asked)]
    for each in sealed:
        inside: list[tuple[int, window.Size]] = []
        for part in each.parts:
            chunk = world.chunks[part.chunk_id]
            assert part.first == chunk.taken
            inside += zip(
                chunk.manifest.offsets[part.first :][: part.requests], chunk.sizes[part.first :], strict=False
            )
            chunk.taken += part.requests
            chunk.left = window.total(chunk.sizes[chunk.taken :])
            if chunk.taken == len(chunk.sizes):
                lane.chunks.remove(chunk)
        if not lane.key.dead:
            factor = world.quota(lane.key.model).factor
            expected = [
                (other.priority, token.expected(other.size.tokens, factor)) for other in waiting_with(world, lane)
            ]
            world.judge.held_back(expected, [offset for offset, _ in inside], limit_of(world, lane))
        left = [offset for chunk in chunks for offset in chunk.manifest.offsets[chunk.taken :]]
        world.judge.sealed(each, limits, inside, left)
        world.insert(lane, each, Verdict("rejected", "") if lane.key == DEAD_LETTERS else None)
