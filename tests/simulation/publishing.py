"""The publisher: results go out in transactions with the ledger, and whoever follows a crash reads how far."""

from penstock.core import decision, ledger, publication
from penstock.core.batch import BatchState
from penstock.core.decision import Decision, Outcome
from penstock.core.publication import Record
from tests.simulation.watching import another_try, read_files
from tests.simulation.world import Batch, World


def publish(world: World) -> None:
    """A session for each decided batch, from the ledger on."""
    for batch in [each for each in world.live if each.state is BatchState.DECIDED]:
        session(world, batch)


def session(world: World, batch: Batch) -> None:
    """Publish a batch from where the ledger says, and mark it; a crash may come at any point."""
    decided = batch.decision
    assert decided is not None
    assert batch.decision_id is not None
    crash = world.provider.weather(world.now).crash
    known = world.ledger.get(batch.id)
    position = ledger.decode_ledger(*known).next_position if known else 0
    lines: decision.Reconciliation | None = None
    if batch.remote is not None and batch.verdict is None and not batch.abandoned and batch.status != "failed":
        lines = read_files(world, batch)
        decided = revise(world, batch, decided, lines, position)
    while position < batch.size.requests and decided.finals:
        records, last = transaction(world, batch, decided, lines, position)
        if world.chance.random() < crash:
            world.note("aborted", batch.number, position)
            world.wake(60.0)
            return
        world.ledger[batch.id] = ledger.encode_ledger(ledger.LedgerRecord(batch.id, batch.decision_id, last))
        position = last
        world.note("published", batch.number, f"to={position}")
        world.judge.published(batch.id, records, world.now)
        if world.chance.random() < crash:
            world.note("crashed", batch.number, position)
            world.wake(60.0)
            return
    world.move(batch, BatchState.PUBLISHED)


def revise(world: World, batch: Batch, decided: Decision, lines: decision.Reconciliation, position: int) -> Decision:
    """Unpublished lines that are gone from a second download are tried again (W4)."""
    gone = decision.unsupported(decided.outcomes, lines.kinds, position)
    if not gone:
        return decided
    outcomes = bytearray(decided.outcomes)
    only = bytearray(len(outcomes))
    for each in gone:
        outcomes[each] = only[each] = Outcome.RESEND
    batch.decision = Decision(decision.FORMAT, bytes(outcomes), decided.verdict_code, decided.verdict_message)
    world.note("revised", batch.number, gone)
    assert batch.remote is not None
    paid = [each for each in batch.remote.successes or () if not batch.remote.lost]
    paid += [offset for offset, outcome in zip(batch.offsets, outcomes, strict=True) if outcome == Outcome.OUTPUT]
    world.judge.decided(batch.id, batch.decision, batch.offsets, paid)
    another_try(world, batch, Decision(decision.FORMAT, bytes(only)))
    return batch.decision


def transaction(
    world: World, batch: Batch, decided: Decision, lines: decision.Reconciliation | None, position: int
) -> tuple[list[Record], int]:
    """The records of one transaction, and the position after them."""

    def line_of(position: int) -> bytes:
        assert lines is not None
        assert batch.remote is not None
        found = lines.found(position)
        assert found is not None
        return b"\n".join(batch.remote.files[found.file])[found.start : found.start + found.length]

    shared = publication.Publication(decided, line_of, lambda _: ("file", 0), "dead-letters", {})
    records: list[Record] = []
    start = 0
    for part, attempt in zip(batch.parts, batch.attempts, strict=True):
        end = start + part.requests
        while position < end and len(records) < world.scenario.transaction_records:
            chunk = world.chunks[part.chunk_id]
            last = min(end, position + world.scenario.transaction_records - len(records))
            headers = publication.shared_headers(batch.id.hex, None, attempt, None, None)
            records += shared.records(chunk.manifest, part, start, position, last, chunk.lines, headers)
            position = last
        start = end
    return records, position
