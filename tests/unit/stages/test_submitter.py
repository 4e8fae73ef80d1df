# ruff: noqa: ARG002 - the fakes take what the real ones take
import asyncio
import errno
import random
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest
from prometheus_client import REGISTRY

from penstock.core.batch import BatchState
from penstock.core.errors import (
    PenstockError,
    ProviderDenied,
    ProviderRefused,
    ProviderUnavailable,
    Superseded,
    UnknownFormat,
)
from penstock.postgres.batch_row import BatchRow
from penstock.postgres.database import Held
from penstock.postgres.submitter_store import Claim, Intent, SubmitterStore
from penstock.settings import ProviderSettings, SubmitterSettings
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.submitter import DENIED_SECONDS, Submitter

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


class FakeStore(SubmitterStore):
    """What the submitter would write."""

    def __init__(self) -> None:
        self.creating = False
        self.claims = 0
        self.postponed: list[float] = []
        self.looked: list[uuid.UUID] = []

    async def claim(self, account: str, look_up_seconds: float) -> Claim | None:
        self.claims += 1
        return None

    async def postpone(self, lease: Held, batch_id: uuid.UUID, seconds: float) -> None:
        if self.creating:
            raise Superseded("not sealed")
        self.postponed.append(seconds)

    async def looked_up(self, lease: Held, batch_id: uuid.UUID) -> None:
        self.looked.append(batch_id)


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


async def nothing_listed(*_: object) -> list[object]:
    return []


class Failing(Submitter):
    """Building the file meets an error."""

    error: BaseException

    async def upload(self, batch: BatchRow, lease: Lease, *, adopt: bool) -> str:
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
    )
    submitter.error = error
    return submitter


def claim_of(epoch: int = 1) -> Claim:
    batch = SimpleNamespace(id=uuid.uuid4(), state=BatchState.SEALED, refusals=0, own_creates=0, file_id=None)
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
    submitter = submitter_of(FakeStore(), ProviderRefused("files.create", "too large", code="invalid_file"))
    await submitter.submit(claim_of(), lease_of("batch"))
    assert submitter.rests_until == 0.0


@pytest.mark.outcome("storage-full")
async def test_a_file_that_is_refused_is_uploaded_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)
    store = FakeStore()
    submitter = submitter_of(store, ProviderRefused("files.create", "You have exceeded your file storage quota"))
    for epoch in range(1, 10):
        await submitter.submit(claim_of(epoch), lease_of("batch"))
    assert store.postponed == [15, 30, 60, 120, 240, 480, 960, 1800, 1800]


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


async def test_a_refusal_of_the_key_that_others_have_seen_the_end_of_is_forgotten() -> None:
    submitter = submitter_of(FakeStore(), ProviderDenied("files.create", "revoked"))
    halted = {"account": submitter.account}
    await submitter.submit(claim_of(), lease_of("batch"))
    assert REGISTRY.get_sample_value("penstock_account_halted", halted) == 1
    await submitter.round()
    assert REGISTRY.get_sample_value("penstock_account_halted", halted) == 1
    assert submitter.denied_at is not None
    submitter.denied_at -= DENIED_SECONDS
    await submitter.round()
    assert REGISTRY.get_sample_value("penstock_account_halted", halted) == 0


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
