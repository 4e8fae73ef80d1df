# ruff: noqa: ARG002 - the fakes take what the real ones take
import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from penstock.core.batch import BatchState, ProviderBatch
from penstock.core.errors import ProviderRefused, ProviderUnavailable
from penstock.postgres.database import Held
from penstock.postgres.janitor_store import JanitorStore, Leftover, Owner, Ring, SeenBatch, Spare
from penstock.provider.answer import ProviderFile
from penstock.provider.client import Listing, Moved, ProviderClient, nothing
from penstock.settings import JanitorSettings
from penstock.stages.janitor import Janitor
from penstock.stages.lease import Lease, LeaseKeeper

OURS = uuid.uuid4()
NOW = datetime.now(UTC)
LEFTOVERS = [Leftover(uuid.uuid4(), ("kept", "file-1"), NOW), Leftover(uuid.uuid4(), ("file-2",), NOW)]


class FakeStore(JanitorStore):
    """What the janitor would do; the steps named here fail."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.done: list[str] = []
        self.marked: list[uuid.UUID] = []
        self.looked_after: list[datetime | None] = []
        self.noted: set[str] = {"the-one"}
        self.open: list[Spare] = []

    def step(self, name: str) -> None:
        if name in self.failing:
            raise RuntimeError(name)
        self.done.append(name)

    async def sweep(self, lease: Held, history_seconds: float) -> None:
        self.step("sweep")

    async def turn(
        self, lease: Held, ring: Ring, turn_seconds: float, progress: Callable[[], None] = lambda: None
    ) -> bool:
        self.step(ring.name)
        return True

    async def truncate(self, lease: Held, ring: Ring) -> int:
        return 0

    async def files_due(self, account: str, grace_seconds: float, after: datetime | None) -> list[Leftover]:
        self.step("files")
        self.looked_after.append(after)
        return [] if after else LEFTOVERS

    async def database_clock(self) -> datetime:
        return datetime.now(UTC)

    async def mark_files_removed(self, lease: Held, batch_id: uuid.UUID) -> None:
        self.marked.append(batch_id)

    async def note_spares(self, lease: Held, account: str, seen: Sequence[SeenBatch]) -> list[Spare]:
        self.step("duplicates")
        new = [Spare(each.provider_batch_id, OURS, 7) for each in seen if each.provider_batch_id not in self.noted]
        self.noted |= {each.provider_batch_id for each in new}
        self.open += new
        return new

    async def open_spares(self, account: str) -> list[Spare]:
        return self.open

    async def end_spare(self, lease: Held, provider_batch_id: str, executed: int) -> bool:
        self.open = [each for each in self.open if each.provider_batch_id != provider_batch_id]
        return True

    async def owners(self, batch_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Owner]:
        return dict.fromkeys(batch_ids, Owner(BatchState.SUBMITTED, None, "the-one"))


class FakeClient(ProviderClient):
    """An account with superfluous batches; whatever is named `kept` refuses."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.cancelled: list[str] = []
        self.gap: ProviderUnavailable | None = None

    async def delete_file(self, file_id: str) -> None:
        if file_id == "kept":
            raise ProviderRefused("files.delete", "")
        self.deleted.append(file_id)

    async def files(self, moved: Moved) -> AsyncIterator[ProviderFile]:
        for each in list[ProviderFile]():
            yield each

    async def back_to(self, moment_: datetime, moved: Moved = nothing) -> Listing:
        metadata = {"penstock_deployment": "test", "penstock_batch": OURS.hex, "penstock_create": uuid.uuid4().hex}
        statuses = {
            "kept": "in_progress",
            "other": "in_progress",
            "stopping": "cancelling",
            "over": "completed",
            "refused": "failed",
            "the-one": "in_progress",
        }
        now = datetime.now(UTC)
        batches = [
            ProviderBatch(name, status, now, None, None, None, (), metadata, 0, 0, 0)
            for name, status in statuses.items()
        ]
        return Listing(batches, self.gap)

    async def cancel(self, provider_batch_id: str) -> None:
        if provider_batch_id == "kept":
            raise ProviderRefused("batches.cancel", "")
        self.cancelled.append(provider_batch_id)


class FakeKeeper:
    async def standing(self, name: str, current: Lease | None) -> Lease:
        return Lease(name, 1, 60.0, float("inf"), time.monotonic())


def counted() -> float:
    return REGISTRY.get_sample_value("penstock_duplicate_executions_total", {"cause": "create"}) or 0.0


def janitor_of(store: FakeStore, client: FakeClient) -> Janitor:
    keeper = cast("LeaseKeeper", cast("Any", FakeKeeper()))
    return Janitor(
        asyncio.Event(),
        JanitorSettings(),
        store,
        {"account": client},
        keeper,
        deployment="test",
        history_seconds=1000.0,
    )


async def test_files_that_cannot_be_deleted_hold_up_none_of_the_others() -> None:
    store = FakeStore()
    janitor = janitor_of(store, FakeClient())
    for _ in range(3):
        await janitor.round()
    assert store.looked_after == [None, LEFTOVERS[-1].published_at, None]


async def test_a_file_that_cannot_be_deleted_ends_nothing_and_is_tried_again() -> None:
    store, client = FakeStore(), FakeClient()
    await janitor_of(store, client).round()
    assert client.deleted == ["file-1", "file-2"]
    assert store.marked == [LEFTOVERS[1].batch_id]
    assert client.cancelled


@pytest.mark.parametrize("failing", ["sweep", "payload", "manifest", "files"])
async def test_a_step_that_fails_skips_no_other_and_is_reported(failing: str) -> None:
    store, client = FakeStore(failing), FakeClient()
    with pytest.raises(RuntimeError, match=failing):
        await janitor_of(store, client).round()
    assert {*store.done, failing} == {"sweep", "payload", "manifest", "files", "duplicates"}
    assert client.cancelled


@pytest.mark.parametrize("failing", ["sweep", "duplicates"])
async def test_a_scan_that_failed_is_made_again_in_the_next_round_and_one_that_did_not_is_not(failing: str) -> None:
    store = FakeStore(failing)
    janitor = janitor_of(store, FakeClient())
    for again in (failing, ""):
        with pytest.raises(RuntimeError, match=failing) if again else nullcontext():
            await janitor.round()
        store.failing = ""
    assert store.done.count("duplicates") == 1


class Silent(FakeClient):
    """An account whose provider lets everybody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def back_to(self, moment_: datetime, moved: Moved = nothing) -> Listing:
        await self.answers.wait()
        raise ProviderRefused("batches.list", "")


async def test_an_account_that_does_not_answer_keeps_no_others_clean_up_waiting_and_is_looked_at_again() -> None:
    silent, other = Silent(), FakeClient()
    janitor = janitor_of(FakeStore(), silent)
    janitor.clients = {"silent": silent, "other": other}
    round_ = asyncio.create_task(janitor.guarded_round())
    async with asyncio.timeout(5):
        while not other.cancelled:
            await asyncio.sleep(0)
    assert not round_.done()
    silent.answers.set()
    await round_
    assert list(janitor.scanned_at) == ["other"]


async def test_a_spare_batch_is_counted_once_it_has_ended_and_one_that_refuses_keeps_no_other() -> None:
    client, before = FakeClient(), counted()
    janitor = janitor_of(FakeStore(), client)
    for _ in range(3):
        janitor.scanned_at.clear()
        await janitor.round()
    assert client.cancelled == ["other"] * 3
    assert counted() - before == 7, "what is over was paid for, what failed was not, what runs is not known yet"
