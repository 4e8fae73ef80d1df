# ruff: noqa: ARG002 - the fakes take what the real ones take
import asyncio
import time
import uuid
from typing import Any, cast

import asyncpg
import pytest

from penstock.core.errors import Superseded, UnknownFormat
from penstock.core.lane import Lanes
from penstock.postgres.submitter_store import LimitOf, SubmitterStore
from penstock.stages.granter import Granter
from penstock.stages.lease import Lease, LeaseKeeper

OWN_FAULTS = [UnknownFormat("manifest", "a newer chunk"), asyncpg.DataError("a text with NUL"), Superseded("elsewhere")]
AWAY = [ConnectionResetError(), asyncpg.InterfaceError("closed"), asyncpg.CannotConnectNowError("starting")]
LATE = [uuid.uuid4(), uuid.uuid4(), uuid.uuid4()]


class FakeStore(SubmitterStore):
    """What the granter would write; some of it fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.reserved: list[str] = []
        self.expired: list[uuid.UUID] = []

    async def models_waiting(self) -> list[tuple[str, str]]:
        return [("account", "a"), ("gone", "c"), ("account", "b")]

    async def reserve(self, account: str, model: str, limit_of: LimitOf) -> int:
        if model == "a" and self.error:
            raise self.error
        self.reserved.append(model)
        return 1

    async def past_deadline(self) -> list[uuid.UUID]:
        return LATE

    async def withdrawn(self) -> list[uuid.UUID]:
        return []

    async def expire(self, batch_id: uuid.UUID) -> bool:
        if batch_id == LATE[1] and self.error:
            raise self.error
        self.expired.append(batch_id)
        return True


class FakeKeeper(LeaseKeeper):
    """Every lease is ours."""

    def __init__(self) -> None:
        self.leases = {}
        self.released: list[str] = []

    async def standing(self, name: str, current: Lease | None) -> Lease:
        return Lease(name, 1, 60.0, float("inf"), time.monotonic())

    async def release(self, lease: Lease) -> None:
        self.released.append(lease.name)


class FakeCensus:
    def __init__(self, newest: bool) -> None:
        self.newest = newest

    async def trusts(self) -> bool:
        return True


def granter_of(store: FakeStore, *, newest: bool = True) -> Granter:
    census = cast("Any", FakeCensus(newest))
    return Granter(asyncio.Event(), store, FakeKeeper(), census, Lanes(), ("account",))


@pytest.mark.parametrize("error", OWN_FAULTS, ids=repr)
async def test_a_model_or_a_batch_that_cannot_be_served_stops_no_other(error: Exception) -> None:
    store = FakeStore(error)
    await granter_of(store).round()
    assert store.reserved == ["b"]
    assert store.expired == [LATE[0], LATE[2]]


@pytest.mark.parametrize("error", AWAY, ids=repr)
async def test_without_the_database_the_round_ends(error: Exception) -> None:
    store = FakeStore(error)
    with pytest.raises(type(error)):
        await granter_of(store).round()


async def test_nothing_is_reserved_of_an_account_that_is_configured_no_more_but_its_deadlines_hold() -> None:
    store = FakeStore()
    await granter_of(store).round()
    assert store.reserved == ["a", "b"]
    assert store.expired == LATE


async def test_whoever_has_older_limits_leaves_the_lease_to_others_at_once() -> None:
    store = FakeStore()
    granter = granter_of(store)
    await granter.round()
    granter.census.newest = False
    store.reserved.clear()
    await granter.round()
    assert not store.reserved
    assert cast("FakeKeeper", granter.keeper).released == ["granter"]
