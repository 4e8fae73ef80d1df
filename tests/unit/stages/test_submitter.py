# ruff: noqa: ARG002 - the fakes take what the real ones take
import asyncio
import errno
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest
from prometheus_client import REGISTRY

from penstock.core.batch import BatchError, BatchState, Cancel, ProviderBatch, Remedy
from penstock.core.errors import (
    PenstockError,
    ProviderDenied,
    ProviderRefused,
    ProviderUnavailable,
    Superseded,
    UnknownFormat,
)
from penstock.core.refusal import Concern
from penstock.core.window import Size
from penstock.postgres.batch_row import BatchRow
from penstock.postgres.database import Held
from penstock.postgres.submitter_store import Again, Claim, Intent, SubmitterStore
from penstock.provider.answer import ProviderFile
from penstock.provider.client import Listing
from penstock.settings import ProviderSettings, SubmitterSettings
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.submitter import FILE_SEARCHES_MAX, Submitter

UNFORESEEN = [
    UnknownFormat("manifest", "a newer chunk"),
    PenstockError("the lines are gone"),
    OSError(errno.ENOSPC, "disk full"),
    asyncpg.DataError("a text with NUL"),
    KeyError("unknown"),
]
AWAY = [
    ConnectionResetError(),
    asyncpg.InterfaceError("closed"),
    asyncpg.CannotConnectNowError("starting"),
    asyncpg.LockNotAvailableError("busy"),
]


@dataclass
class SealedBatch:
    """What the submitter looks at of a batch."""

    id: uuid.UUID
    state: BatchState = BatchState.SEALED
    refusals: int = 0
    own_creates: int = 0
    creates: int = 0
    lines_lost: int = 0
    file_id: str | None = None
    cancel: Cancel | None = None
    size: Size = field(default_factory=lambda: Size(10, 1000, 100, 0))


class FakeStore(SubmitterStore):
    """What the submitter would write."""

    def __init__(self) -> None:
        self.creating = False
        self.claims = 0
        self.postponed: list[float] = []
        self.looked: list[uuid.UUID] = []
        self.absent: list[uuid.UUID] = []
        self.adopted: list[uuid.UUID] = []

    async def claim(self, account: str, look_up_seconds: float) -> Claim | None:
        self.claims += 1
        return None

    async def postpone(self, lease: Held, batch_id: uuid.UUID, seconds: float) -> None:
        if self.creating:
            raise Superseded("not sealed")
        self.postponed.append(seconds)

    async def made_by_creates(self, batch_id: uuid.UUID) -> frozenset[str]:
        return frozenset()

    async def refused(
        self,
        lease: Held,
        batch_id: uuid.UUID,
        intent_ids: Sequence[uuid.UUID],
        outcome: str,
        again: Again,
        *,
        counted: bool | None = None,
    ) -> None:
        self.absent += intent_ids

    async def looked_up(self, lease: Held, batch_id: uuid.UUID) -> None:
        self.looked.append(batch_id)

    async def landed(
        self, lease: Held, batch_id: uuid.UUID, intent_id: uuid.UUID, answer: ProviderBatch, *, adopted: bool
    ) -> None:
        assert adopted
        self.adopted.append(intent_id)


class FakeKeeper(LeaseKeeper):
    """Every lease is ours."""

    def __init__(self) -> None:
        self.leases = {}

    async def release(self, lease: Lease) -> None:
        lease.lost = True


class FakeCensus:
    newest = True

    async def trusts(self) -> bool:
        return True


class FakeAcquaintance:
    """The key is the right one, or another project's."""

    def __init__(self, *, known: bool = True) -> None:
        self.known = known

    async def knows(self, account: str) -> bool:
        return self.known


class FakeAccounts:
    """Which stages the provider refuses, with its words."""

    def __init__(self) -> None:
        self.halts: dict[str, ProviderDenied] = {}

    async def halt(self, account: str, stage: str, error: ProviderDenied, again_seconds: float) -> None:
        self.halts[stage] = error

    async def halted(self, account: str, stage: str) -> bool:
        return stage in self.halts

    async def end_halt(self, account: str, stage: str) -> None:
        self.halts.pop(stage, None)


class FakeRefusals:
    """What was to be done about refused batches, and when they are sent again."""

    def __init__(self) -> None:
        self.acted: list[tuple[Remedy, Again]] = []

    async def act(self, lease: Held, batch: BatchRow, error: BatchError, action: Remedy, again: Again) -> None:
        self.acted.append((action, again))


async def nothing_listed(*_: object) -> Listing:
    return Listing([], None)


class Failing(Submitter):
    """Building the file meets an error."""

    error: BaseException

    async def upload(self, batch: BatchRow, lease: Lease) -> str:
        raise self.error


def lease_of(name: str) -> Lease:
    return Lease(name, 1, 60.0, float("inf"), time.monotonic())


def submitter_of(store: FakeStore, error: BaseException) -> Failing:
    nothing: Any = None
    submitter = Failing(
        asyncio.Event(),
        SubmitterSettings(),
        ProviderSettings(),
        store,
        nothing,
        nothing,
        cast("Any", FakeAcquaintance()),
        FakeKeeper(),
        cast("Any", FakeCensus()),
        nothing,
        deployment="test",
        lane_label=str,
        accounts=cast("Any", FakeAccounts()),
        refusals=cast("Any", FakeRefusals()),
    )
    submitter.error = error
    return submitter


def claim_of(epoch: int = 1) -> Claim:
    batch = SealedBatch(uuid.uuid4())
    return Claim(cast("BatchRow", cast("Any", batch)), epoch, ())


@pytest.mark.parametrize("error", UNFORESEEN, ids=repr)
async def test_a_batch_that_meets_the_unforeseen_waits_and_lets_the_others_go(error: Exception) -> None:
    store = FakeStore()
    await submitter_of(store, error).submit(claim_of(), lease_of("batch"))
    assert store.postponed[0] > 10


@pytest.mark.outcome("provider-down")
async def test_while_the_provider_is_away_nothing_is_claimed_for_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    submitter = submitter_of(FakeStore(), ProviderUnavailable("files.create", "away"))
    rests = []
    for _ in range(8):
        for _ in range(3):  # what many batches meet at once counts once
            await submitter.submit(claim_of(), lease_of("batch"))
        rests.append(round(submitter.rests_until - time.monotonic()))
        submitter.rests_until = 0.0
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.outcome("rate-limited", "retry-after-huge")
async def test_the_provider_says_itself_how_long_to_rest() -> None:
    submitter = submitter_of(FakeStore(), ProviderUnavailable("files.create", "busy", retry_after_seconds=600))
    await submitter.submit(claim_of(), lease_of("batch"))
    assert 590 < submitter.rests_until - time.monotonic() <= 600


async def test_what_is_a_batchs_own_fault_lets_the_others_go_at_once() -> None:
    submitter = submitter_of(
        FakeStore(), ProviderRefused("files.create", "too large", code="invalid_file", concern=Concern.SIZE)
    )
    await submitter.submit(claim_of(), lease_of("batch"))
    assert submitter.rests_until == 0.0


async def test_a_refused_upload_has_its_action_by_what_it_concerns() -> None:
    submitter = submitter_of(FakeStore(), ProviderRefused("files.create", "413", code="413", concern=Concern.SIZE))
    await submitter.submit(claim_of(), lease_of("batch"))
    acted = cast("FakeRefusals", cast("Any", submitter.refusals)).acted
    assert [action for action, _ in acted] == [Remedy.HALVE]


async def test_a_refused_read_decides_nothing_about_a_batch() -> None:
    """Before anything is sent, the key's batches are looked at."""
    store = FakeStore()
    submitter = submitter_of(store, ProviderRefused("batches.retrieve", "odd", code="422"))
    await submitter.submit(claim_of(), lease_of("batch"))
    assert not cast("FakeRefusals", cast("Any", submitter.refusals)).acted
    assert store.postponed[0] > 0


@pytest.mark.outcome("storage-full")
async def test_a_refused_account_is_halted_and_its_batch_is_not_blamed() -> None:
    store = FakeStore()
    denied = ProviderDenied("files.create", "You have exceeded your file storage quota", code="400")
    submitter = submitter_of(store, denied)
    await submitter.submit(claim_of(), lease_of("batch"))
    assert cast("FakeAccounts", cast("Any", submitter.accounts)).halts == {"submitter": denied}
    assert store.postponed == [0.0]


async def test_a_create_that_is_announced_by_then_is_looked_up_later() -> None:
    store, claim = FakeStore(), claim_of()
    store.creating = True
    await submitter_of(store, KeyError()).submit(claim, lease_of("batch"))
    assert store.looked == [claim.batch.id]


@pytest.mark.parametrize("error", [*AWAY, asyncio.CancelledError()], ids=repr)
async def test_while_the_database_is_away_no_batch_is_blamed(error: BaseException) -> None:
    store = FakeStore()
    with pytest.raises(type(error)):
        await submitter_of(store, error).submit(claim_of(), lease_of("batch"))
    assert not store.postponed


async def test_a_halt_that_another_replica_has_ended_is_shown_no_longer() -> None:
    submitter = submitter_of(FakeStore(), ProviderDenied("files.create", "revoked"))
    halted = {"account": submitter.account, "stage": "submitter"}
    await submitter.submit(claim_of(), lease_of("batch"))
    await submitter.round()
    assert REGISTRY.get_sample_value("penstock_account_halted", halted) == 1
    await submitter.accounts.end_halt(submitter.account, "submitter")
    await submitter.round()
    assert REGISTRY.get_sample_value("penstock_account_halted", halted) == 0


@pytest.mark.parametrize("epoch", [FILE_SEARCHES_MAX, FILE_SEARCHES_MAX + 1])
async def test_a_search_for_the_file_that_keeps_failing_ends_with_another_upload(epoch: int) -> None:
    submitter = submitter_of(FakeStore(), KeyError())

    async def refuse(_: object) -> AsyncIterator[ProviderFile]:
        raise ProviderRefused("files.list", "limit is too large", code="400")
        yield  # it is a generator

    submitter.client = cast("Any", SimpleNamespace(files=refuse))
    lease = Lease("batch", epoch, 60.0, float("inf"), time.monotonic())
    if epoch <= FILE_SEARCHES_MAX:
        with pytest.raises(ProviderUnavailable):
            await submitter.find_file("name", 1, lease)
    else:
        assert await submitter.find_file("name", 1, lease) is None


@pytest.mark.parametrize("cancel", [None, Cancel.ANSWER])
async def test_an_operators_cancel_ends_a_doubt_that_cannot_be_looked_up(cancel: Cancel | None) -> None:
    store = FakeStore()
    submitter = submitter_of(store, KeyError())

    async def fail(*_: object) -> list[object]:
        raise ProviderUnavailable("batches.list", "500")

    submitter.client = cast("Any", SimpleNamespace(back_to=fail))
    old = Intent(uuid.uuid4(), datetime.now(UTC), 1e6)
    claim = replace(claim_of(), doubts=(old,))
    cast("Any", claim.batch).state, cast("Any", claim.batch).cancel = BatchState.CREATING, cancel
    await submitter.submit(claim, lease_of("batch"))
    assert (store.looked, store.absent) == (([claim.batch.id], []) if cancel is None else ([], [old.id]))


@pytest.mark.outcome("list-endless")
@pytest.mark.parametrize("shown", [True, False])
async def test_a_list_with_a_gap_shows_that_a_create_landed_and_never_that_it_did_not(*, shown: bool) -> None:
    store = FakeStore()
    submitter = submitter_of(store, KeyError())
    old = Intent(uuid.uuid4(), datetime.now(UTC), 1e6)
    metadata = {"penstock_deployment": submitter.deployment, "penstock_create": old.id.hex}
    made = ProviderBatch("batch_1", "in_progress", None, None, None, None, (), metadata, 0, 0, 0)

    async def incomplete(*_: object) -> Listing:
        return Listing([made] if shown else [], ProviderUnavailable("batches.list", "its pages repeat"))

    submitter.client = cast("Any", SimpleNamespace(back_to=incomplete))
    claim = replace(claim_of(), doubts=(old,))
    cast("Any", claim.batch).state = BatchState.CREATING
    await submitter.submit(claim, lease_of("batch"))
    assert (store.absent, store.looked) == ([], [] if shown else [claim.batch.id])
    assert store.adopted == ([old.id] if shown else [])


async def test_with_another_projects_key_no_create_is_found_absent() -> None:
    """Whatever it lists, the batch that the lost create made is not among it."""
    store = FakeStore()
    submitter = submitter_of(store, KeyError())
    submitter.acquaintance = cast("Any", FakeAcquaintance(known=False))
    submitter.client = cast("Any", SimpleNamespace(back_to=nothing_listed))
    old = Intent(uuid.uuid4(), datetime.now(UTC), 1e6)
    claim = replace(claim_of(), doubts=(old,))
    cast("Any", claim.batch).state = BatchState.CREATING
    await submitter.submit(claim, lease_of("batch"))
    assert store.looked == [claim.batch.id]
