"""The poller and the collector: what the provider says is recorded, finished batches are decided."""

from penstock.core import batch as batches
from penstock.core import decision, quota, requeue, retry, token, window
from penstock.core.batch import BatchError, BatchState, Remedy, Verdict
from penstock.core.decision import Decision, Outcome
from penstock.core.identity import new_id
from penstock.core.retry import SUBMISSION
from tests.simulation.world import Batch, World

STUCK_GRACE_SECONDS = 3600.0
CANCEL_GRACE_SECONDS = 1800.0
ACCOUNT_GRACE_SECONDS = 86_400.0


def watch(world: World) -> None:
    """A round of the poller: statuses move forward, stuck batches are cancelled and at last closed."""
    watched = [each for each in world.watched if each.open]
    world.watched = watched
    unseen = world.provider.weather(world.now).unseen
    seen: dict[Batch, str] = {}
    for batch in watched:
        assert batch.remote is not None
        if not batch.remote.forgotten and world.chance.random() >= unseen:
            at = world.now - (world.chance.random() * 60 if unseen else 0.0)  # a list may be stale
            seen[batch] = batch.remote.status(at)
    for batch, status in seen.items():
        record(world, batch, status)
    for batch in watched:
        overdue = world.now - batch.expires_at
        if batch.open and overdue > STUCK_GRACE_SECONDS:
            unstick(world, batch, overdue, account_answers=bool(seen))


def record(world: World, batch: Batch, status: str) -> None:
    """Store a status that moved forward."""
    if not batches.moves_forward(batch.status, status):
        return
    world.note("status", batch.number, batch.status, status)
    world.judge.status(batch.status, status)
    batch.status = status
    assert batch.remote is not None
    if batches.is_terminal(status):
        batch.open = False
        batch.errors = (batch.remote.error,) if batch.remote.error else ()
        world.release(batch)
        world.provider.finish(batch.remote)
        if batch.state is BatchState.SUBMITTED:
            world.move(batch, BatchState.ENDED)
        world.wake(1.0)
    elif batch.remote.ends_at < float("inf"):
        world.wake(max(batch.remote.ends_at - world.now, 0.0) + 60)


def unstick(world: World, batch: Batch, overdue: float, *, account_answers: bool) -> None:
    """Cancel a batch past its expiry and grace; close it here when that does not end it (W1, W3)."""
    remote = batch.remote
    assert remote is not None
    if remote.forgotten:
        graces = STUCK_GRACE_SECONDS + CANCEL_GRACE_SECONDS
        if overdue > graces + (0.0 if account_answers else ACCOUNT_GRACE_SECONDS):
            abandon(world, batch)
            batch.open = False
            world.release(batch)
    elif batches.is_terminal(remote.status(world.now)):
        return
    elif batch.cancel_requested_at is None:
        batch.cancel_requested_at = world.now
        world.provider.cancel(remote, world.now)
        world.wake(CANCEL_GRACE_SECONDS + 1)
        if remote.ends_at < float("inf"):
            world.wake(remote.ends_at - world.now + 1)
    elif world.now - batch.cancel_requested_at > CANCEL_GRACE_SECONDS and not batch.abandoned:
        abandon(world, batch)


def abandon(world: World, batch: Batch) -> None:
    """Close a batch here; that it may be paid twice is counted."""
    assert batch.remote is not None
    batch.abandoned = True
    world.provider.finish(batch.remote)
    for offset in batch.offsets:
        world.judge.forgiven[offset] += 1
    world.note("abandoned", batch.number)
    world.move(batch, BatchState.ENDED)


def collect(world: World) -> None:
    """Decide every ended batch, or send it or its pieces again."""
    for batch in [each for each in world.live if each.state is BatchState.ENDED]:
        if world.chance.random() >= world.provider.weather(world.now).crash:
            decide(world, batch)
        else:
            world.wake(60.0)


def read_files(world: World, batch: Batch) -> decision.Reconciliation:
    """A download of a batch's files, set against its positions; it may be that they are gone."""
    remote = batch.remote
    assert remote is not None
    lines = decision.Reconciliation(batches.locate(batch.parts), batch.size.requests)
    if not remote.lost and world.chance.random() < world.provider.weather(world.now).file_lost:
        remote.lost, remote.files = True, ([], [])
        world.note("file lost", batch.number)
        for offset in batch.offsets:
            world.judge.forgiven[offset] += 1
    for number, file in enumerate(remote.files):
        lines.read(number, 0, file)
    return lines


def decide(world: World, batch: Batch) -> None:
    """Decide a batch."""
    count, policy = batch.size.requests, batch.lane.policy
    paid: set[int] = set()
    if batch.lane.key.dead:
        decided = Decision(decision.FORMAT, bytes([Outcome.DEAD_LETTER]) * count)
    elif batch.verdict:
        decided = verdict_for_all(batch, batch.verdict)
    elif batch.status == "failed":
        answer = refused(world, batch)
        if answer is None:
            return
        decided = verdict_for_all(batch, answer)
    else:
        kinds: bytes | bytearray = bytes(count)
        if not batch.abandoned:
            assert batch.remote is not None
            kinds = read_files(world, batch).kinds
            paid = set() if batch.remote.lost else batch.remote.successes or set()
            learn(world, batch, kinds)
        attempts, expired = histories(world, batch)
        decided = decision.decide(kinds, attempts, policy.attempts_max, expired)
    batch.decision, batch.decision_id = decided, new_id()
    world.note("decided", batch.number, list(decided.outcomes), decided.verdict_code)
    world.judge.timely(decided, batch.offsets, world.now)
    world.judge.decided(batch.id, decided, batch.offsets, paid)
    another_try(world, batch, decided)
    world.move(batch, BatchState.DECIDED)


def histories(world: World, batch: Batch) -> tuple[bytearray, list[bool]]:
    """Per position: failures so far, and whether its deadline has passed."""
    attempts = bytearray()
    expired: list[bool] = []
    for part in batch.parts:
        chunk = world.chunks[part.chunk_id]
        attempts += bytes([chunk.attempt]) * part.requests
        deadlines = chunk.manifest.deadlines[part.first : part.first + part.requests]
        expired += [each <= world.now for each in deadlines]
    return attempts, expired


def another_try(world: World, batch: Batch, decided: Decision) -> None:
    """New chunks for the positions that get another try (W5)."""
    policy = batch.lane.policy
    backoff = retry.Backoff(policy.retry_min_seconds, policy.retry_max_seconds)
    requeues = requeue.Requeues()
    packed = []
    start = 0
    for part in batch.parts:
        chunk = world.chunks[part.chunk_id]
        again = [
            requeue.Try(index, chunk.attempt + (outcome == Outcome.RETRY))
            for index, outcome in enumerate(decided.outcomes[start : start + part.requests], part.first)
            if outcome in (Outcome.RETRY, Outcome.RESEND)
        ]
        kept = requeue.Kept(chunk.tries + 1, chunk.turn, chunk.stored)
        packed += requeues.take(chunk.manifest, chunk.lines, again, kept)
        start += part.requests
    for each in packed + requeues.rest():
        world.store(batch.lane, each, backoff.delay_seconds(each.tries, world.chance.random()))


def refused(world: World, batch: Batch) -> Verdict | None:
    """A batch that failed at validation (B5). Returns a verdict when it answers all."""
    error = batch.errors[0] if batch.errors else BatchError("unknown", "no reason given", None)
    count = batch.size.requests
    delay = SUBMISSION.delay_seconds(batch.own_creates, world.chance.random())
    remedy = batches.remedy(error, requests=count, lines_lost=batch.lines_lost, creates=batch.window.creates)
    world.note("refused", batch.number, error, remedy)
    match remedy:
        case Remedy.ANSWER_ALL:
            return Verdict(error.code, error.message)
        case Remedy.AGAIN:
            world.send_again(batch, delay, 0)
        case Remedy.AGAIN_SMALLER:
            limit = quota.learned_limit(error.message)
            known = world.quota(batch.lane.key.model)
            if limit is not None and limit == (batch.lane.policy.enqueued_tokens_max or known.learned_limit):
                known.factor = token.underestimated(known.factor)
            known.learned_limit = limit or known.learned_limit
            known.learned_at, known.probing = world.now, limit is None
            if count == 1 and limit is not None and batch.size.tokens > limit:
                return Verdict(error.code, error.message)
            batch.window.creates -= 1  # refusals for tokens do not use up a window's creates
            world.send_again(batch, delay, 0)
        case Remedy.ANSWER_LINE:
            line = error.line or 1
            rest = batches.positions(batch.parts, 0, line - 1) + batches.positions(batch.parts, line, count - line)
            bad = batches.positions(batch.parts, line - 1, 1)
            world.split(batch, [(bad, Verdict(error.code, error.message)), (rest, None)], batch.lines_lost + 1)
        case Remedy.HALVE:
            halves = batches.positions(batch.parts, 0, count // 2), batches.positions(batch.parts, count // 2, count)
            world.split(batch, [(half, None) for half in halves], 0)
        case Remedy.HALT_LANE:
            halt(world, batch)
    return None


def halt(world: World, batch: Batch) -> None:
    """Stop a lane until an operator has looked; what it has sealed gives back its tokens."""
    batch.lane.halted = True
    world.send_again(batch, 0.0, 0)
    for each in [each for each in world.reservations if each.lane is batch.lane and each.state is BatchState.SEALED]:
        world.release(each)
    world.wake(2 * 3600.0)


def operate(world: World) -> None:
    """An operator resumes halted lanes now and then."""
    for lane in world.lanes.values():
        if lane.halted and world.chance.random() < 0.5:
            lane.halted = False
            world.note("resumed", lane.key.model)
            world.wake(1.0)


def learn(world: World, batch: Batch, kinds: bytes | bytearray) -> None:
    """Real usage corrects the estimate; failures by the provider's fault slow the lane down."""
    known = world.quota(batch.lane.key.model)
    sizes = [size for part in batch.parts for size in world.chunks[part.chunk_id].sizes[part.first :][: part.requests]]
    tokens = sum(size.tokens for size, kind in zip(sizes, kinds, strict=True) if kind == decision.Kind.SUCCESS)
    known.factor = token.calibrate(known.factor, tokens, int(tokens * world.scenario.token_factor))
    known.probing = False
    failed, start = [kind == decision.Kind.OWN_FAILURE for kind in kinds], 0
    first: list[bool] = []
    for part, attempt in zip(batch.parts, batch.attempts, strict=True):
        first += failed[start : start + part.requests] if attempt == 0 else []
        start += part.requests
    probing = window.probe_next(len(first), sum(first), len(failed), sum(failed))
    if probing is False:
        batch.lane.probing_at = None
    elif probing and batch.lane.probing_at is None:
        batch.lane.probing_at = world.now


def verdict_for_all(batch: Batch, verdict: Verdict) -> Decision:
    """A decision that answers every position alike."""
    return Decision(decision.FORMAT, bytes([Outcome.VERDICT]) * batch.size.requests, verdict.code, verdict.message)
