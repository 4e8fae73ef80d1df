"""What the poller makes of what a provider says, and of what it does not say (W1, W3, W4)."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.core.batch import Hint
from penstock.core.errors import ProviderMissing, ProviderUnavailable
from penstock.postgres.account_store import AccountStore
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.poller_store import PollerStore
from penstock.postgres.webhook_store import WebhookStore
from penstock.provider.clients import ProviderClients
from penstock.settings import PollerSettings
from penstock.stages.acquaintance import GRACE_SECONDS, Acquaintance
from penstock.stages.lease import LeaseKeeper
from penstock.stages.poller import Poller
from tests.support.account import Account, opened_account
from tests.support.downloads import downloader_of, spooled
from tests.support.rows import ACCOUNT, held
from tests.support.simulator import reach

STALE = {"operation": "batches.list", "http": {"hide_newer_than_seconds": 3600}}
NEVER_ENDS = {"batch": {"seconds": {"in_progress": 3600}}}
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
async def account(database: str, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(database, tmp_path) as opened:
        yield opened


def poller(account: Account, *, hints: bool = False) -> Poller:
    drain = asyncio.Event()
    keeper = LeaseKeeper(drain, LeaseStore(account.pool, uuid.uuid4(), 60.0))
    settings = PollerSettings(stuck_grace_seconds=0, cancel_grace_seconds=1)
    store = PollerStore(account.pool)
    acquaintance = Acquaintance(AccountStore(account.pool), ProviderClients({ACCOUNT: account.client}))
    return Poller(drain, settings, ACCOUNT, store, account.client, acquaintance, keeper, lambda _: "other", hints=hints)


async def hint(account: Account, provider_batch_id: str) -> None:
    """Tell of a batch, as a webhook does."""
    await WebhookStore(account.pool, ACCOUNT).note(Hint(f"wh_{provider_batch_id}", provider_batch_id))


@pytest.mark.outcome("webhook-early")
@pytest.mark.outcome("files-limit")
async def test_calls_at_the_same_time_agree_on_the_size_of_a_page(account: Account) -> None:
    await account.simulator.faults([{"operation": "batches.list", "http": {"limit_max": 20}}])
    for _ in range(3):
        pages = await asyncio.gather(*(account.client.back_to(datetime.now(UTC)) for _ in range(4)))
        assert pages == [([], None)] * 4


async def test_a_hint_that_came_before_its_batch_was_noted_is_not_lost(account: Account) -> None:
    watching = poller(account, hints=True)
    await watching.round()
    batch_id, _ = await account.announce()
    made = await account.create(batch_id)
    await reach(account.sdk, made.id)
    await hint(account, made.id)
    await watching.round()
    submitted = {"state": "submitted", "provider_batch_id": made.id, "provider_status": made.status}
    await account.set(batch_id, **submitted, provider_open=True, submitted_at=datetime.now(UTC))
    await watching.round()
    assert (await account.row(batch_id))["state"] == "ended"


async def test_a_hint_whose_look_fails_is_made_up_for_by_the_next_round(account: Account) -> None:
    watching = poller(account, hints=True)
    await watching.round()
    batch_id, provider_batch_id = await account.submit()
    await reach(account.sdk, provider_batch_id)
    await hint(account, provider_batch_id)
    await account.simulator.faults([{"operation": "batches.retrieve", "times": 1, "http": {"status": 400}}])
    await watching.guarded_round()
    assert (await account.row(batch_id))["state"] == "submitted"
    await watching.round()
    assert (await account.row(batch_id))["state"] == "ended"


@pytest.mark.outcome("webhook-lost")
async def test_between_two_rounds_only_hints_are_followed_and_a_round_finds_what_nobody_hinted_at(
    account: Account,
) -> None:
    watching = poller(account, hints=True)
    await watching.round()
    told, untold = [await account.submit() for _ in range(2)]
    for _, provider_batch_id in (told, untold):
        await reach(account.sdk, provider_batch_id)
    await hint(account, told[1])
    assert await watching.round() <= 1.0
    states = [(await account.row(batch_id))["state"] for batch_id, _ in (told, untold)]
    assert states == ["ended", "submitted"]
    watching.due_at = 0.0
    await watching.round()
    assert (await account.row(untold[0]))["state"] == "ended"


@pytest.mark.defence("missing_is_no_status")
async def test_a_batch_that_is_not_found_for_a_while_is_not_over(account: Account) -> None:
    """Off: a batch that the provider does not know is taken as cancelled."""
    watching, (batch_id, provider_batch_id) = poller(account), await account.submit()
    await reach(account.sdk, provider_batch_id)
    await account.simulator.faults([{"operation": "batches.retrieve", "http": {"status": 404}}])
    await watching.round()
    assert (await account.row(batch_id))["state"] == "submitted", "a batch that was not found is over"
    await account.simulator.faults([])
    await watching.round()
    assert (await account.row(batch_id))["provider_status"] == "completed"


@pytest.mark.defence("failures_apart")
@pytest.mark.outcome("retrieve-fails", "list-stale")
async def test_a_batch_that_cannot_be_retrieved_keeps_no_other_from_being_recorded(account: Account) -> None:
    """Off: the first failure ends the round."""
    watching, submitted = poller(account), [await account.submit() for _ in range(2)]
    for _, provider_batch_id in submitted:
        await reach(account.sdk, provider_batch_id)
    path = f"*/{submitted[0][1]}"
    broken = {"operation": "batches.retrieve", "when": {"path": path}, "http": {"status": 400}}
    await account.simulator.faults([STALE, broken])
    await watching.guarded_round()
    states = [(await account.row(batch_id))["state"] for batch_id, _ in submitted]
    assert states == ["submitted", "ended"], "the batch beside it was not recorded"


@pytest.mark.defence("fresh_retrieve")
@pytest.mark.outcome("single-poll-fails")
async def test_a_batch_that_ended_unseen_is_not_given_up_as_stuck(account: Account) -> None:
    """It is overdue, told to stop long ago, and not seen in this round. Off: no fresh retrieve is asked for."""
    await account.simulator.faults([{**NEVER_ENDS, "nth": 2}])
    watching = poller(account)
    batch_id, provider_batch_id = await account.submit(expires_at=AN_HOUR_AGO, cancel_requested_at=AN_HOUR_AGO)
    await account.submit()
    await reach(account.sdk, provider_batch_id)
    path = f"*/{provider_batch_id}"
    once = {"operation": "batches.retrieve", "when": {"path": path}, "times": 1, "http": {"status": 400}}
    await account.simulator.faults([STALE, once])
    await watching.round()
    assert (await account.row(batch_id))["abandoned_at"] is None, "it is paid for, and goes again"
    await watching.round()
    assert (await account.row(batch_id))["provider_status"] == "completed"


@pytest.mark.defence("null_expiry")
@pytest.mark.outcome("null-expiry")
async def test_a_batch_that_tells_no_expiry_is_overdue_after_its_window(account: Account) -> None:
    """Off: it never is."""
    for hours in (1, 25):
        await account.submit(expires_at=None, submitted_at=datetime.now(UTC) - timedelta(hours=hours))
    old, young = [each.overdue_seconds for each in await PollerStore(account.pool).watched(ACCOUNT)]
    assert 3600 <= old < 3700, "it is never overdue"
    assert young < 0


@pytest.mark.defence("stale_list")
@pytest.mark.outcome("list-never-moves")
async def test_what_a_stale_list_shows_as_it_was_is_retrieved(account: Account) -> None:
    """Off: it stands still for ever."""
    watching, submitted = poller(account), [await account.submit() for _ in range(2)]
    for _, provider_batch_id in submitted:
        await reach(account.sdk, provider_batch_id)
    await account.simulator.faults([{"operation": "batches.list", "http": {"listed_status": "validating"}}])
    await watching.round()
    assert (await account.row(submitted[0][0]))["state"] == "submitted", "the list is believed for a while"
    watching.asked_at = dict.fromkeys(watching.asked_at, -1e9)
    await watching.round()
    assert {(await account.row(batch_id))["state"] for batch_id, _ in submitted} == {"ended"}, "it stands still"


@pytest.mark.defence("lost_batches")
@pytest.mark.outcome("retrieve-never")
async def test_a_batch_that_can_never_be_retrieved_is_closed_and_watched_on(account: Account) -> None:
    """Off: it is open for ever."""
    expired = {"*": {"expires_at": int(AN_HOUR_AGO.timestamp())}}
    await account.simulator.faults([{"batch": {"seconds": {"in_progress": 3600}, "show": expired}}])
    watching, (batch_id, provider_batch_id) = poller(account), await account.submit()
    await account.simulator.faults([NEVER_ENDS])
    await account.submit()
    lost = {"operation": "batches.retrieve", "when": {"path": f"*/{provider_batch_id}"}, "http": {"status": 400}}
    await account.simulator.faults([lost])
    await watching.round()
    assert (await account.row(batch_id))["abandoned_at"] is None, "it failed once"
    watching.failing_since = dict.fromkeys(watching.failing_since, -1e9)
    await watching.round()
    row = await account.row(batch_id)
    assert (row["state"], row["provider_open"]) == ("ended", True), "it is open for ever"


@pytest.mark.defence("given_up_bound")
async def test_a_batch_that_was_given_up_and_never_ends_has_its_tokens_for_so_long(account: Account) -> None:
    """Off: it has them for ever."""
    await account.simulator.faults([NEVER_ENDS])
    watching, (batch_id, _) = poller(account), await account.submit(cancel_requested_at=AN_HOUR_AGO)
    lease = await held(account.pool, "poller/another")
    assert await PollerStore(account.pool).abandon(lease, batch_id, gone=False)
    await watching.round()
    assert (await account.row(batch_id))["provider_open"]
    await account.set(batch_id, abandoned_at=datetime.now(UTC) - timedelta(days=8))
    await watching.round()
    assert not (await account.row(batch_id))["provider_open"], "it keeps its tokens for ever"
    async with account.pool.pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM reservation") == 0


@pytest.mark.defence("plain_statuses")
@pytest.mark.outcome("status-spelling")
async def test_a_batch_whose_status_is_spelled_in_another_way_ends(account: Account) -> None:
    """Off: it never does."""
    await account.simulator.faults([{"batch": {"show": {"completed": {"status": "Completed"}}}}])
    watching, (batch_id, provider_batch_id) = poller(account), await account.submit()
    async with asyncio.timeout(30):
        while str(await account.status(provider_batch_id)) != "Completed":
            await asyncio.sleep(0.05)
    await watching.round()
    assert (await account.row(batch_id))["state"] == "ended", "it never ends"


@pytest.mark.defence("lane_window")
@pytest.mark.outcome("null-expiry")
async def test_a_batch_that_tells_no_expiry_has_the_completion_window_of_its_lane(account: Account) -> None:
    """Off: it is cancelled as stuck after a day, although it has seven."""
    await account.submit(expires_at=None, submitted_at=datetime.now(UTC) - timedelta(days=2))
    async with account.pool.pool.acquire() as connection:
        await connection.execute("UPDATE lane SET completion_window = '7d'")
    (watched,) = await PollerStore(account.pool).watched(ACCOUNT)
    assert -5.1 < watched.overdue_seconds / 86_400 < -4.9, "it is overdue after a day"


@pytest.mark.defence("null_files")
@pytest.mark.outcome("null-output", "empty-ids")
async def test_a_completed_batch_that_names_no_file_is_asked_again_before_its_lines_count_as_missing(
    account: Account, tmp_path: Path
) -> None:
    """Off: they count as missing at once, and are paid for twice."""
    show = {"completed": {"output_file_id": None, "error_file_id": ""}}
    await account.simulator.faults([{"batch": {"show": show}}])
    batch_id, provider_batch_id = await account.submit()
    await reach(account.sdk, provider_batch_id)
    await poller(account).round()
    store, downloader = CollectorStore(account.pool, 4), downloader_of(account, tmp_path)
    with pytest.raises(ProviderUnavailable):
        await spooled(downloader, await store.load(batch_id))
    downloader.file_gone_seconds = 0.0
    assert (await spooled(downloader, await store.load(batch_id))).lines.missing == 2


@pytest.mark.outcome("forgotten")
async def test_a_batch_that_ended_and_is_then_forgotten_has_no_more_lines_after_a_while(
    account: Account, tmp_path: Path
) -> None:
    await account.submit()
    batch_id, provider_batch_id = await account.submit()
    await reach(account.sdk, provider_batch_id)
    await poller(account).round()
    forgotten = {"operation": "batches.retrieve", "when": {"path": f"*/{provider_batch_id}"}, "http": {"status": 404}}
    await account.simulator.faults([forgotten])
    store, downloader = CollectorStore(account.pool, 4), downloader_of(account, tmp_path)
    batch = await store.load(batch_id)
    with pytest.raises(ProviderMissing):
        await downloader.file_ids(account.client, batch)
    downloader.file_gone_seconds = 0.0
    assert await downloader.file_ids(account.client, batch) == [batch.output_file_id], "what is known of it is kept"


@pytest.mark.defence("known_key")
@pytest.mark.outcome("key-changed")
async def test_what_another_projects_key_does_not_find_is_not_lost(account: Account, tmp_path: Path) -> None:
    """Off: its lines are paid for again, though another key would find them."""
    batch_id, provider_batch_id = await account.submit()
    await reach(account.sdk, provider_batch_id)
    await poller(account).round()
    gone = [{"operation": each, "http": {"status": 404}} for each in ("*.retrieve", "files.content")]
    await account.simulator.faults(gone)
    downloader = downloader_of(account, tmp_path)
    downloader.file_gone_seconds = 0.0
    batch = await CollectorStore(account.pool, 4).load(batch_id)
    for _ in ("the batch", "its file"):
        with pytest.raises(ProviderMissing):
            await spooled(downloader, batch)
        for suspicion in downloader.suspicions.values():
            suspicion.since -= GRACE_SECONDS
    assert (await spooled(downloader, batch)).lost


@pytest.mark.defence("watched_to_its_end")
@pytest.mark.outcome("stuck-cancelling", "limit-tokens-released")
async def test_a_batch_that_was_given_up_keeps_its_tokens_until_it_has_really_ended(account: Account) -> None:
    """Off: it is watched no more, and what it still has enqueued at the provider is forgotten."""
    await account.simulator.faults([NEVER_ENDS])
    watching, (batch_id, provider_batch_id) = poller(account), await account.submit()
    lease = await held(account.pool, "poller/another")
    assert await PollerStore(account.pool).abandon(lease, batch_id, gone=False)
    await account.sdk.batches.cancel(provider_batch_id)
    await reach(account.sdk, provider_batch_id)
    await watching.round()
    row = await account.row(batch_id)
    assert (row["provider_status"], row["state"]) == ("cancelled", "ended"), "its end was not seen"
    async with account.pool.pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM reservation") == 0


@pytest.mark.defence("every_page")
@pytest.mark.outcome("list-page-2")
async def test_a_look_up_that_did_not_read_every_page_decides_nothing(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off: what the pages before the failure showed is all there is."""
    monkeypatch.setitem(account.client.page_sizes, "batches.list", [2])
    for _ in range(5):
        await account.create(uuid.uuid4())
    await account.simulator.faults(
        [{"operation": "batches.list", "when": {"query": {"after": "*"}}, "nth": 2, "http": {"status": 400}}]
    )
    assert (await account.client.back_to(AN_HOUR_AGO)).gap is not None
    listed = await account.client.back_to(AN_HOUR_AGO)
    assert (len(listed.batches), listed.gap) == (5, None)
