import asyncio
import uuid
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from structlog.testing import CapturingLogger

from penstock.core.errors import Superseded
from penstock.postgres.database import Held
from penstock.postgres.lease_store import LeaseStore
from penstock.stages import lease as module
from penstock.stages import stage
from penstock.stages.lease import MARGIN, STALL_FACTOR, Lease, LeaseKeeper

SECONDS = 10.0
HELD = SECONDS * (1 - MARGIN)


class Clock:
    """Monotonic time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeStore(LeaseStore):
    """Leases without a database; renewals take `delay` and answer as told."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.holder = uuid.uuid4()
        self.seconds = SECONDS
        self.epochs: dict[str, int] = {}
        self.taken: set[str] = set()
        self.asked: list[list[str]] = []
        self.released: list[str] = []
        self.locked: set[str] = set()
        self.delay = 0.0
        self.failure: Exception | None = None

    async def acquire_lease(self, name: str) -> int | None:
        self.clock.now += self.delay
        if name in self.taken:
            return None
        self.epochs[name] = self.epochs.get(name, 0) + 1
        return self.epochs[name]

    async def renew_leases(self, leases: Sequence[Held]) -> dict[str, bool]:
        self.clock.now += self.delay
        self.asked.append([each.name for each in leases])
        if self.failure is not None:
            raise self.failure
        return {each.name: each.name not in self.locked for each in leases if each.name not in self.taken}

    async def release_lease(self, lease: Held) -> None:
        self.released.append(lease.name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def store(clock: Clock) -> FakeStore:
    return FakeStore(clock)


@pytest.fixture
def keeper(store: FakeStore) -> LeaseKeeper:
    return LeaseKeeper(asyncio.Event(), store)


async def acquired(keeper: LeaseKeeper, name: str = "batch/1", work_seconds_max: float = float("inf")) -> Lease:
    lease = await keeper.acquire(name, work_seconds_max)
    assert lease is not None
    return lease


async def test_a_lease_is_counted_from_before_it_was_asked_for(
    clock: Clock, store: FakeStore, keeper: LeaseKeeper
) -> None:
    store.delay = 3.0
    lease = await acquired(keeper)
    assert lease.held_until == 1000.0 + HELD
    clock.now = 1000.0 + HELD - 0.1
    assert lease.held
    lease.require()
    clock.now = 1000.0 + HELD
    assert not lease.held
    with pytest.raises(Superseded):
        lease.require()


async def test_an_answer_that_came_too_late_leaves_nothing_held(store: FakeStore, keeper: LeaseKeeper) -> None:
    store.delay = SECONDS
    assert not (await acquired(keeper)).held


async def test_somebody_elses_lease_is_none(store: FakeStore, keeper: LeaseKeeper) -> None:
    store.taken = {"batch/1"}
    assert await keeper.acquire("batch/1") is None


async def test_leases_that_move_are_renewed_in_one_statement_from_before_it_was_sent(
    clock: Clock, store: FakeStore, keeper: LeaseKeeper
) -> None:
    leases = [await acquired(keeper, name) for name in ("a", "b", "c")]
    clock.now += 5
    store.delay = 2.0
    assert await keeper.round() == SECONDS / 4
    assert store.asked == [["a", "b", "c"]]
    assert all(lease.held_until == 1005.0 + HELD for lease in leases)


async def test_a_keeper_without_leases_asks_nothing(store: FakeStore, keeper: LeaseKeeper) -> None:
    await keeper.round()
    assert store.asked == []


async def test_a_lease_that_another_took_is_lost_and_not_asked_for_again(store: FakeStore, keeper: LeaseKeeper) -> None:
    lease, other = await acquired(keeper, "a"), await acquired(keeper, "b")
    store.taken = {"a"}
    await keeper.round()
    await keeper.round()
    assert lease.lost
    assert not lease.held
    assert other.held
    assert store.asked == [["a", "b"], ["b"]]
    with pytest.raises(Superseded):
        lease.progress()


async def test_a_lease_whose_work_stalls_is_not_renewed_and_runs_out(
    clock: Clock, store: FakeStore, keeper: LeaseKeeper
) -> None:
    lease = await acquired(keeper)
    while clock.now - lease.progressed_at < SECONDS * STALL_FACTOR:
        await keeper.round()
        assert lease.held
        clock.now += SECONDS / 4
    rounds = len(store.asked)
    while lease.held:
        await keeper.round()
        clock.now += SECONDS / 4
    await keeper.round()
    assert len(store.asked) == rounds
    assert lease.lost
    assert keeper.leases == {}


async def test_work_that_moves_is_renewed_for_as_long_as_it_takes(clock: Clock, keeper: LeaseKeeper) -> None:
    lease = await acquired(keeper)
    for _ in range(200):
        clock.now += SECONDS / 4
        lease.progress()
        await keeper.round()
    assert lease.held


async def test_no_progress_extends_work_past_its_deadline(clock: Clock, store: FakeStore, keeper: LeaseKeeper) -> None:
    lease = await acquired(keeper, work_seconds_max=20.0)
    ends_at = clock.now + 20.0
    while clock.now < ends_at + SECONDS:
        if lease.held:
            lease.progress()
        await keeper.round()
        clock.now += 1.0
    assert lease.lost
    assert len(store.asked) == 20


async def test_a_renewal_that_failed_is_tried_again_before_the_leases_run_out(
    clock: Clock, store: FakeStore, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "log", log := CapturingLogger())
    lease = await acquired(keeper)
    store.failure = ConnectionError("away")
    keeper.failures = 20
    assert await keeper.guarded_round() <= SECONDS / 4
    assert [call.method_name for call in log.calls] == ["warning"]
    assert lease.held
    clock.now += SECONDS / 4
    store.failure = None
    await keeper.guarded_round()
    assert lease.held_until == clock.now + HELD


async def test_a_lease_that_a_transaction_of_ours_has_locked_stays_ours(
    clock: Clock, store: FakeStore, keeper: LeaseKeeper
) -> None:
    busy = await keeper.acquire("busy")
    assert busy is not None
    until = busy.held_until
    store.locked = {"busy"}
    clock.now += keeper.store.seconds / 4
    await keeper.round()
    assert (busy.held, busy.held_until) == (True, until)
    store.locked = set()
    await keeper.round()
    assert busy.held_until > until


async def test_a_lease_that_was_given_back_is_not_held_and_not_renewed(store: FakeStore, keeper: LeaseKeeper) -> None:
    lease = await acquired(keeper)
    await keeper.release(lease)
    await keeper.round()
    assert not lease.held
    assert (store.released, store.asked) == (["batch/1"], [])


async def test_a_lease_is_given_back_however_its_work_ends(store: FakeStore, keeper: LeaseKeeper) -> None:
    lease = await acquired(keeper)
    with pytest.raises(ZeroDivisionError):
        async with keeper.holding(lease):
            raise ZeroDivisionError
    assert store.released == ["batch/1"]


async def test_a_standing_role_keeps_its_lease_and_takes_it_anew_when_lost(
    clock: Clock, store: FakeStore, keeper: LeaseKeeper
) -> None:
    first = await keeper.standing("sealer", None)
    assert first is not None
    clock.now += 1
    assert await keeper.standing("sealer", first) is first
    assert first.progressed_at == clock.now
    clock.now += SECONDS
    second = await keeper.standing("sealer", first)
    assert second is not None
    assert second.epoch == 2
    second.lost = True
    store.taken = {"sealer"}
    assert await keeper.standing("sealer", second) is None
