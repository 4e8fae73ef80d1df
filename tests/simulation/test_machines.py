"""Small machines whose every sequence of steps Hypothesis may try, and shrink when one breaks a rule."""

import uuid

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from penstock.core.batch import PROVIDER_RANK, TRANSITIONS, BatchState, is_terminal, moves_forward, rank
from penstock.core.chunk import Manifest
from penstock.core.decision import FINAL, FORMAT, Decision, Outcome
from penstock.core.filling import Sizes, seal
from penstock.core.ledger import LedgerRecord, decode_ledger, encode_ledger
from penstock.core.publication import Publication
from penstock.core.quota import Reserved, Waiting, grants
from penstock.core.window import ChunkSummary, Part, SealReason, Size, WindowLimits, total

FEW = settings(max_examples=60, stateful_step_count=30)
RESULT_TOPIC = "results"


class Reservations(RuleBasedStateMachine):
    """Batches of a model ask for tokens, hold them, and give them back in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Waiting] = []
        self.held: dict[uuid.UUID, int] = {}
        self.unproven: set[uuid.UUID] = set()
        self.limit: int | None = None
        self.probing = False

    @rule(tokens=st.integers(1, 150))
    def ask(self, tokens: int) -> None:
        self.waiting.append(Waiting(uuid.uuid4(), tokens))

    @rule(limit=st.none() | st.integers(1, 100), probing=st.booleans())
    def learn(self, limit: int | None, *, probing: bool) -> None:
        self.limit, self.probing = limit, probing

    @rule()
    def grant(self) -> None:
        before = Reserved(sum(self.held.values()), len(self.held), len(self.unproven))
        granted = grants(self.waiting, before, self.limit, probing=self.probing)
        assert granted == self.waiting[: len(granted)], "a younger batch before an older one"
        self.waiting = self.waiting[len(granted) :]
        self.held |= {each.batch_id: each.tokens for each in granted}
        self.unproven |= {each.batch_id for each in granted}
        if granted and self.limit is not None:
            assert sum(self.held.values()) <= self.limit or len(self.held) == 1
        if granted and self.limit is None:
            assert len(self.unproven) == 1, "two batches ask for an unknown limit at once"
            assert not (self.probing and before.batches), "a probe is not alone"
        if self.waiting and not self.held:
            raise AssertionError("an idle model grants nothing")

    @precondition(lambda self: self.unproven)
    @rule()
    def take(self) -> None:
        """The provider has validated a batch."""
        self.unproven.discard(min(self.unproven))

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 10), times=st.integers(1, 2))
    def release(self, index: int, times: int) -> None:
        batch_id = list(self.held)[index % len(self.held)]
        for _ in range(times):
            self.held.pop(batch_id, None)
            self.unproven.discard(batch_id)


class Sealing(RuleBasedStateMachine):
    """Chunks come, age and are taken in part; no request is taken twice, skipped or put over a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.chunks: dict[uuid.UUID, tuple[float, Sizes]] = {}
        self.taken: dict[uuid.UUID, int] = {}
        self.limits = WindowLimits(5, 100, 10, None)

    @rule(
        sizes=st.lists(
            st.builds(Size, st.just(1), st.integers(1, 60), st.integers(1, 30), st.integers(1, 4)), min_size=1
        )
    )
    def store(self, sizes: list[Size]) -> None:
        chunk_id = uuid.uuid4()
        self.chunks[chunk_id], self.taken[chunk_id] = (self.now, Sizes(sizes)), 0

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        requests=st.integers(1, 8),
        size=st.integers(20, 200),
        inputs=st.integers(1, 12),
        tokens=st.none() | st.integers(1, 40),
    )
    def change_limits(self, requests: int, size: int, inputs: int, tokens: int | None) -> None:
        self.limits = WindowLimits(requests, size, inputs, tokens)

    @rule(flush=st.booleans())
    def seal(self, *, flush: bool) -> None:
        summaries = [
            ChunkSummary(each, self.taken[each], total(sizes[self.taken[each] :]), self.now - at)
            for each, (at, sizes) in self.chunks.items()
            if self.taken[each] < len(sizes)
        ]
        sealed = seal(summaries, self.limits, lambda each: self.chunks[each][1], age_max_seconds=30.0, flush=flush)
        for batch in sealed:
            sizes = []
            for part in batch.parts:
                assert part.first == self.taken[part.chunk_id], "not the prefix that is left"
                self.taken[part.chunk_id] += part.requests
                sizes += self.chunks[part.chunk_id][1][part.first : self.taken[part.chunk_id]]
            assert batch.size == total(sizes)
            assert batch.size.requests == 1 or self.limits.broken_by(batch.size) is None
            assert flush or batch.reason is not SealReason.FLUSH
        left = [each for each, (_, sizes) in self.chunks.items() if self.taken[each] < len(sizes)]
        younger = list(self.chunks)[list(self.chunks).index(left[0]) + 1 :] if left else []
        assert not any(self.taken[each] for each in younger), "a younger chunk before an older one"
        if not flush and len(sealed) < 16:
            assert not any(self.now - self.chunks[each][0] >= 30.0 for each in left), "what is old is left"


class Statuses(RuleBasedStateMachine):
    """Polls of a batch come late, doubled and in any order; its state only goes the ways there are."""

    def __init__(self) -> None:
        super().__init__()
        self.state = BatchState.SUBMITTED
        self.status = "validating"
        self.ended = False

    @rule(status=st.sampled_from(sorted(PROVIDER_RANK)) | st.sampled_from(["thinking", ""]))
    def see(self, status: str) -> None:
        if self.ended or not moves_forward(self.status, status):
            return
        assert rank(status) >= rank(self.status)
        self.status = status
        if is_terminal(status):
            assert BatchState.ENDED in TRANSITIONS[self.state]
            self.state = BatchState.ENDED
            self.ended = True

    @rule(status=st.sampled_from(sorted(PROVIDER_RANK)))
    def see_at_last(self, status: str) -> None:
        """Whatever was lost or came before, the end is taken, even if the create's own answer said so."""
        if is_terminal(status) and not self.ended:
            assert moves_forward(self.status, status)

    @rule(status=st.sampled_from(sorted(PROVIDER_RANK)))
    def create_again(self, status: str) -> None:
        """A batch that was refused goes again; the answer to its create may be any status."""
        if self.ended:
            assert {BatchState.SEALED} <= TRANSITIONS[self.state]
            self.state, self.status, self.ended = BatchState.SUBMITTED, status, False

    @invariant()
    def it_is_over_only_by_a_terminal_status(self) -> None:
        assert not self.ended or is_terminal(self.status)
        assert (self.state is BatchState.ENDED) == self.ended


class Publishing(RuleBasedStateMachine):
    """A decided batch is published in transactions of any length, whoever dies between them."""

    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.ledger: dict[bytes, bytes] = {}
        self.read: dict[uuid.UUID, list[bytes]] = {}
        self.finals: dict[uuid.UUID, list[int]] = {}
        self.decisions: dict[uuid.UUID, Decision] = {}

    @rule(
        target=batches,
        outcomes=st.lists(st.sampled_from([Outcome.VERDICT, Outcome.RETRY, Outcome.DEADLINE]), min_size=1),
    )
    def decide(self, outcomes: list[Outcome]) -> uuid.UUID:
        batch_id = uuid.uuid4()
        self.decisions[batch_id] = Decision(FORMAT, bytes(outcomes), "refused", "No.")
        self.finals[batch_id] = [position for position, outcome in enumerate(outcomes) if outcome in FINAL]
        self.read[batch_id] = []
        return batch_id

    def step(self, batch_id: uuid.UUID, positions: int, *, committed: bool) -> bool:
        """One transaction from where the ledger says; returns whether anything was left to do."""
        decision = self.decisions[batch_id]
        key = batch_id.hex.encode()
        first = decode_ledger(key, self.ledger[key]).next_position if key in self.ledger else 0
        count = len(decision.outcomes)
        if first >= count:
            return False
        last = min(first + positions, count)
        built = publication(decision).records(manifest_of(count), Part(batch_id, 0, count), 0, first, last, None, [])
        if committed:
            key, value = encode_ledger(LedgerRecord(batch_id, batch_id, last))
            self.ledger[key] = value
            self.read[batch_id] += [each.value or b"" for each in built]
        return True

    @rule(batch_id=batches, positions=st.integers(1, 5), committed=st.booleans())
    def transact(self, batch_id: uuid.UUID, positions: int, *, committed: bool) -> None:
        if batch_id in self.decisions:
            self.step(batch_id, positions, committed=committed)

    @rule(batch_id=consumes(batches))
    def finish(self, batch_id: uuid.UUID) -> None:
        while self.step(batch_id, 3, committed=True):
            pass
        numbers = [int(value.split(b'"custom_id":"')[1].split(b'"')[0]) for value in self.read[batch_id]]
        assert numbers == self.finals[batch_id], "not every final result once, in the order of the requests"
        del self.decisions[batch_id]


def publication(decision: Decision) -> Publication:
    """Of a decision that needs no file."""
    return Publication(decision, lambda _: b"", lambda _: ("", 0), "dead-letters", {})


def manifest_of(count: int) -> Manifest:
    """Requests whose custom_id is their position."""
    manifest = Manifest.empty("cluster", "requests", uuid.UUID(int=7))
    for position in range(count):
        manifest.custom_ids.append(str(position))
        manifest.partitions.append(0)
        manifest.offsets.append(position)
        manifest.keys.append(None)
        manifest.headers.append([])
        manifest.received.append(0.0)
        manifest.deadlines.append(0.0)
        manifest.result_topics.append(RESULT_TOPIC)
        manifest.lengths.append(1)
    return manifest


@pytest.mark.parametrize("machine", [Reservations, Sealing, Statuses, Publishing], ids=lambda each: each.__name__)
def test_no_sequence_of_steps_breaks_a_rule(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=FEW)
