"""What the janitor takes away at the provider, and what it leaves (B4, P5, crash point 18)."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.postgres.janitor_store import JanitorStore
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.publisher_store import PublisherStore
from penstock.provider.client import Listing, Moved
from penstock.settings import JanitorSettings
from penstock.stages.janitor import Janitor
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.telemetry import failpoint
from tests.support.account import DEPLOYMENT, Account, opened_account
from tests.support.rows import ACCOUNT, held
from tests.support.simulator import chat_lines, reach

NEVER_ENDS = {"batch": {"seconds": {"in_progress": 3600}}}


@pytest.fixture
async def account(database: str, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(database, tmp_path) as opened:
        yield opened


async def janitor(account: Account, **settings: Any) -> tuple[Janitor, Lease]:
    """A janitor that sees no reason to wait, and its lease."""
    drain = asyncio.Event()
    keeper = LeaseKeeper(drain, LeaseStore(account.pool, uuid.uuid4(), 60.0))
    grace: dict[str, Any] = {"file_grace_seconds": 0, "orphan_grace_seconds": 0, **settings}
    store = JanitorStore(account.pool)
    stage = Janitor(
        drain,
        JanitorSettings(**grace),
        store,
        {ACCOUNT: account.client},
        keeper,
        deployment=DEPLOYMENT,
        history_seconds=3600,
    )
    lease = await keeper.acquire("janitor")
    assert lease is not None
    return stage, lease


async def upload(account: Account, name: str) -> str:
    """Upload a batch input file of this name, which is old enough to be an orphan."""
    file = await account.sdk.files.create(file=(name, chat_lines(1)), purpose="batch")
    while datetime.now(UTC).timestamp() < file.created_at + 1:
        await asyncio.sleep(0.05)
    return file.id


async def is_there(account: Account, file_id: str) -> bool:
    """Whether the provider has a file."""
    try:
        await account.sdk.files.retrieve(file_id)
    except openai.NotFoundError:
        return False
    return True


async def in_progress(account: Account, batch_id: uuid.UUID, deployment: str = DEPLOYMENT) -> str:
    """A batch that the provider works on."""
    created = await account.create(batch_id, deployment)
    return (await reach(account.sdk, created.id, "in_progress")).id


@pytest.mark.defence("own_deployment")
@pytest.mark.outcome("orphaned-uploads")
async def test_only_what_this_deployment_made_is_cancelled_or_deleted(account: Account) -> None:
    """Off: whatever names one of our batches is taken as ours."""
    await account.simulator.faults([NEVER_ENDS])
    stage, lease = await janitor(account)
    batch_id, provider_batch_id = await account.submit()
    ours, others = await in_progress(account, batch_id), await in_progress(account, batch_id, "other")
    name = f"{batch_id.hex}-{'0' * 64}.jsonl"
    our_file = await upload(account, f"penstock-{DEPLOYMENT}-{name}")
    other_file = await upload(account, f"penstock-other-{name}")
    await stage.settle_spares(lease, ACCOUNT)
    await stage.remove_orphans(lease, ACCOUNT)
    assert await account.status(ours) in ("cancelling", "cancelled")
    assert await account.status(provider_batch_id) == "in_progress"
    assert not await is_there(account, our_file)
    assert await account.status(others) == "in_progress", "another deployment's batch was cancelled"
    assert await is_there(account, other_file), "another deployment's file was deleted"


@pytest.mark.defence("other_non_null_id")
async def test_a_batch_whose_create_is_in_doubt_is_not_cancelled(account: Account) -> None:
    """Its answer was lost, and its row names none. Off: a row that names another id, or none, is enough."""
    await account.simulator.faults([NEVER_ENDS])
    stage, lease = await janitor(account)
    batch_id, _ = await account.announce()
    provider_batch_id = await in_progress(account, batch_id)
    await stage.settle_spares(lease, ACCOUNT)
    assert await account.status(provider_batch_id) == "in_progress", "a batch that will be adopted was cancelled"


@pytest.mark.defence("rows_after_listing")
async def test_a_batch_that_was_created_while_the_janitor_looked_is_not_cancelled(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row named an earlier batch, which was refused. Off: rows are read before the provider's list."""
    await account.simulator.faults([NEVER_ENDS])
    stage, lease = await janitor(account)
    batch_id, _ = await account.submit(provider_batch_id="batch_of_an_earlier_create")
    provider_batch_id = await in_progress(account, batch_id)
    back_to = account.client.back_to

    async def slow(moment: datetime, moved: Moved) -> Listing:
        listed = await back_to(moment, moved)
        await account.set(batch_id, provider_batch_id=provider_batch_id)
        return Listing([each for each in listed.batches if each.id == provider_batch_id], None)

    monkeypatch.setattr(account.client, "back_to", slow)
    await stage.settle_spares(lease, ACCOUNT)
    assert await account.status(provider_batch_id) == "in_progress", "the batch that its row names was cancelled"


async def published(account: Account, file_id: str, *, keep_files: bool = False) -> uuid.UUID:
    """A batch that was just published, with its input file."""
    batch_id, _ = await account.submit(file_id=file_id)
    await account.set(batch_id, state="ended", provider_open=False, ended_at=datetime.now(UTC))
    await account.set(batch_id, state="decided", decision_id=uuid.uuid4(), decided_at=datetime.now(UTC))
    slot = await held(account.pool, f"slot/{batch_id}")
    await PublisherStore(account.pool).mark(slot, batch_id, 2, keep_files=keep_files)
    return batch_id


@pytest.mark.defence("file_grace")
async def test_the_files_of_a_batch_outlive_its_publishing_by_a_day(account: Account) -> None:
    """Off: they go at once."""
    file_id = await upload(account, "any.jsonl")
    batch_id = await published(account, file_id)
    stage, lease = await janitor(account, file_grace_seconds=86_400)
    await stage.remove_files(lease, ACCOUNT)
    assert await is_there(account, file_id), "its file is gone already"
    await account.set(batch_id, published_at=datetime.fromtimestamp(0, UTC))
    await stage.remove_files(lease, ACCOUNT)
    assert not await is_there(account, file_id)


@pytest.mark.defence("kept_files")
async def test_the_files_that_a_dead_letter_names_are_kept(account: Account) -> None:
    """Off: the janitor deletes them like any other."""
    file_id = await upload(account, "any.jsonl")
    await published(account, file_id, keep_files=True)
    stage, lease = await janitor(account)
    await stage.remove_files(lease, ACCOUNT)
    assert await is_there(account, file_id), "what the dead letter names is gone"


@pytest.mark.defence("deleted_twice")
async def test_a_clean_up_that_was_interrupted_is_done_again(account: Account) -> None:
    """Crash point 18: a file is deleted, and the answer lost. Off: a file that is gone cannot be deleted."""
    file_id = await upload(account, "any.jsonl")
    batch_id = await published(account, file_id)
    stage, lease = await janitor(account)
    failpoint.arm("files.delete=after:lose")
    try:
        with pytest.raises(ConnectionError):
            await stage.remove_files(lease, ACCOUNT)
    finally:
        failpoint.arm("")
    assert not await is_there(account, file_id)
    assert (await account.row(batch_id))["files_removed_at"] is None
    await stage.remove_files(lease, ACCOUNT)
    assert (await account.row(batch_id))["files_removed_at"] is not None, "the clean-up goes on for ever"


async def test_files_that_nobody_could_delete_are_forgotten_once_the_provider_has_let_them_expire(
    account: Account,
) -> None:
    """As of an account that is configured no more: its rows go with their history."""
    batch_id, younger = [await published(account, "file-gone") for _ in range(2)]
    now = datetime.now(UTC)
    for each, age in ((batch_id, timedelta(days=32)), (younger, timedelta(days=30))):
        await account.set(each, published_at=now - age, sealed_at=now - age, ledger_cleared_at=now)
    _, lease = await janitor(account)
    await JanitorStore(account.pool).sweep(lease, 86_400)
    async with account.pool.pool.acquire() as connection:
        assert [row["id"] for row in await connection.fetch("SELECT id FROM batch")] == [younger]
    assert (await account.row(younger))["files_removed_at"] is None
