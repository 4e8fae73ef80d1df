"""The submitter: tokens are reserved, batches created, creates in doubt looked up."""

from penstock.core import batch as batches
from penstock.core import filling, quota, token
from penstock.core.batch import BatchState, Verdict
from penstock.core.retry import SUBMISSION
from penstock.core.window import WindowLimits
from tests.simulation.provider import LATE_SECONDS, STALE_SECONDS, Remote
from tests.simulation.world import Batch, Intent, World

LOOK_UP_SECONDS = 20.0
DOUBT_SECONDS = 240.0
"""The client's time-out and two minutes: from then on a look-up decides (B3)."""
BUDGET_SECONDS = 30.0
REFUSALS_MAX = 8


def grant(world: World) -> None:
    """Reserve tokens for those who wait; answer what waited too long."""
    models: dict[str, list[Batch]] = {}
    for batch in waiting(world):
        models.setdefault(batch.lane.key.model, []).append(batch)
    for model, mine in models.items():
        reserve(world, model, mine)
    overdue = [each for each in world.live if each.state is BatchState.SEALED and each.deadline_at <= world.now]
    for batch in overdue:
        pieces = batches.split_by_deadline(batch.parts, world.deadlines_of, world.now)
        if any(verdict for _, verdict in pieces):
            world.split(batch, pieces, batch.lines_lost)
        else:  # the chunk's deadline is that of all its requests; the earliest may be in another batch
            batch.deadline_at = world.deadline(batch.parts)
            world.wake(max(0.0, batch.deadline_at - world.now))


def waiting(world: World) -> list[Batch]:
    """Sealed batches without a reservation, by priority, then oldest first."""
    found = [
        each
        for each in world.live
        if each.state is BatchState.SEALED
        and each.not_before <= world.now
        and not each.lane.halted
        and each not in world.reservations
    ]
    found.sort(key=lambda each: (each.priority, each.sealed_at, each.number))
    return found


def reserve(world: World, model: str, mine: list[Batch]) -> None:
    """Grant a model's reservations, or cut the oldest batch when it is over the limit in force (S2)."""
    known = world.quota(model)
    oldest = mine[0]
    limit = world.limit(oldest.lane)
    asking = [quota.Waiting(each.id, token.expected(each.size.tokens, known.factor)) for each in mine]
    if limit is not None and asking[0].tokens > limit and oldest.size.requests > 1:
        cut(world, oldest, max(1, int(oldest.size.tokens * limit / 4 / asking[0].tokens)))
        return
    reserved = {each: tokens for each, tokens in world.reservations.items() if each.lane.key.model == model}
    unproven = sum(each.status in ("", "validating") for each in reserved)
    held = quota.Reserved(sum(reserved.values()), len(reserved), unproven)
    granted = quota.grants(asking, held, limit, probing=known.probing)
    tokens = {each.batch_id: each.tokens for each in granted}
    chosen = [each for each in mine if each.id in tokens]
    world.judge.granted(chosen, mine)
    for each in chosen:
        world.reservations[each] = reserved[each] = tokens[each.id]
        world.note("reserved", each.number, tokens[each.id], limit)
    if granted:
        world.judge.reserved(list(reserved.values()), limit)
        world.wake(1.0)


def cut(world: World, batch: Batch, tokens_max: int) -> None:
    """Cut a batch into batches of at most so many nominal tokens, each a window of its own."""
    limits = WindowLimits(batch.size.requests, batch.size.bytes, batch.size.inputs, tokens_max)
    pieces = [(each.parts, None) for each in filling.cut(batch.parts, limits, world.sizes_of)]
    world.split(batch, pieces, batch.lines_lost, keeps_window=False)


def submit(world: World) -> None:
    """Take every batch that may be submitted as far as it goes now, by priority, then oldest first."""
    ready = [
        each
        for each in world.live
        if each.state is BatchState.CREATING
        or (
            each.state is BatchState.SEALED
            and each in world.reservations
            and each.not_before <= world.now < each.deadline_at
        )
    ]
    ready.sort(key=lambda each: (each.priority, each.sealed_at, each.number))
    for batch in ready:
        if batch.intent is not None:
            look_up(world, batch, batch.intent)
        else:
            create(world, batch)


def create(world: World, batch: Batch) -> None:
    """Announce a create, send it once, store its answer."""
    chance, weather, now = world.chance, world.provider.weather(world.now), world.now
    if world.creates_of_hour() >= world.scenario.creates_per_hour:
        room_in = world.intents[-world.scenario.creates_per_hour] + 3600 - now
        world.send_again(batch, BUDGET_SECONDS, 0, wake_seconds=max(BUDGET_SECONDS, room_in))
        return
    world.intents.append(now)
    intent = Intent(len(world.intents), now)
    world.move(batch, BatchState.CREATING)
    batch.intent = intent
    count_create(batch, 1)
    world.judge.created(now, batch.offsets, batch.size, batch.lane.policy, batch.window.creates)
    if chance.random() < weather.create_lost:
        intent.lands_at = now + chance.uniform(0, LATE_SECONDS)
        if chance.random() < 0.6:
            intent.remote = remote_of(world, batch, intent)
        world.note("lost", batch.number, intent.remote is not None)
        world.wake(LOOK_UP_SECONDS)
        return
    refused = chance.random() < weather.create_refused
    if not refused and chance.random() >= weather.create_unavailable:
        intent.remote = remote_of(world, batch, intent)
        land(world, batch, intent)
        return
    batch.intent = None
    count_create(batch, -1)
    final = refused and batch.refusals + 1 >= REFUSALS_MAX
    world.send_again(batch, SUBMISSION.delay_seconds(batch.refusals + 1, chance.random()), int(refused))
    if final:
        batch.verdict = Verdict("invalid_request_error", "The provider does not take it.")
        world.move(batch, BatchState.ENDED)


def count_create(batch: Batch, count: int) -> None:
    """Count a create of a batch and of its window, or take it back."""
    batch.own_creates += count
    batch.window.creates += count


def remote_of(world: World, batch: Batch, intent: Intent) -> Remote:
    """The provider's batch of a create that landed."""
    lines: list[bytes] = []
    for part in batch.parts:
        lines += world.chunks[part.chunk_id].lines[part.first : part.first + part.requests]
    tokens = int(batch.size.tokens * world.scenario.token_factor)
    return world.provider.create(world.now, intent.number, batch.lane.key.model, lines, tokens)


def land(world: World, batch: Batch, intent: Intent) -> None:
    """Store a create's answer, at once or when it is found."""
    remote = intent.remote
    assert remote is not None
    world.move(batch, BatchState.SUBMITTED)
    batch.intent, batch.remote, batch.status, batch.open = None, remote, "validating", True
    world.watched.append(batch)
    batch.expires_at = remote.created_at + 24 * 3600
    world.note("submitted", batch.number, f"remote={remote.number}", remote.end, remote.error)
    for at in (remote.validated_at, remote.ends_at, batch.expires_at + 3600):
        if at < float("inf"):
            world.wake(max(at - world.now, 0.0) + world.chance.uniform(0, 60))


def look_up(world: World, batch: Batch, intent: Intent) -> None:
    """Find out whether a lost create made a batch, before anything is created again (B2, B3)."""
    if world.now - intent.looked_up_at < LOOK_UP_SECONDS:
        return
    if world.provider.is_away(world.now):
        intent.looked_up_at = world.now
        world.wake(LOOK_UP_SECONDS + 1)
        return
    stale = world.chance.random() * STALE_SECONDS
    if intent.remote is not None and intent.lands_at <= world.now - stale:
        land(world, batch, intent)
        return
    if world.now - intent.at > DOUBT_SECONDS:
        world.note("absent", batch.number)
        batch.intent = None
        count_create(batch, -1)
        world.send_again(batch, 0.0, 0)
        return
    intent.looked_up_at = world.now
    world.wake(LOOK_UP_SECONDS + 1)
