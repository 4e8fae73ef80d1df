"""When a downloaded file is believed, and when one that is not named yet is waited for (W2, W4)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.core.decision import Kind
from penstock.core.errors import ProviderError, ProviderUnavailable
from penstock.core.identity import wire_id
from penstock.postgres.batch_row import BatchRow
from penstock.postgres.collector_store import CollectorStore
from penstock.stages import downloader as module
from penstock.stages.downloader import Downloader
from tests.support.account import Account, opened_account
from tests.support.downloads import downloader_of, long_lease, spooled
from tests.support.simulator import chat_lines, create_batch, reach

REQUESTS = 2


@pytest.fixture
async def account(database: str, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(database, tmp_path) as opened:
        yield opened


@pytest.fixture
def downloader(account: Account, tmp_path: Path) -> Downloader:
    return downloader_of(account, tmp_path / "spool")


async def ended(account: Account, *rules: dict[str, Any]) -> BatchRow:
    """A batch that has ended at the provider, as its row says; its lines have the wire ids of its requests."""
    await account.simulator.faults(list(rules))
    batch_id, _ = await account.announce()
    store = CollectorStore(account.pool, 4)
    (part,) = (await store.load(batch_id)).parts
    lines = [json.loads(each) for each in chat_lines(REQUESTS).splitlines()]
    named = [{**each, "custom_id": wire_id(part.chunk_id, number)} for number, each in enumerate(lines)]
    made = await create_batch(account.sdk, b"".join(json.dumps(each).encode() + b"\n" for each in named))
    batch = await reach(account.sdk, made.id)
    await account.set(
        batch_id,
        state="submitted",
        provider_batch_id=batch.id,
        provider_status=batch.status,
        output_file_id=batch.output_file_id,
        submitted_at=(await account.row(batch_id))["sealed_at"],
    )
    await account.set(batch_id, state="ended", ended_at=(await account.row(batch_id))["sealed_at"])
    return await store.load(batch_id)


async def downloads(account: Account, batch: BatchRow) -> bytes:
    """The output file, as it is at the provider."""
    return (await account.sdk.files.content(batch.output_file_id or "")).content


@pytest.mark.defence("late_file_ids")
@pytest.mark.outcome("late-file-id")
async def test_a_file_that_is_named_seconds_after_the_end_is_waited_for(
    account: Account, downloader: Downloader
) -> None:
    """Off: its lines count as missing, and their requests are executed twice at once."""
    lines = [{"count": 1, "status_code": 400}]
    batch = await ended(account, {"batch": {"lines": lines, "late_file_ids": {"output": 1}}})
    assert batch.output_file_id is None
    with pytest.raises(ProviderUnavailable, match="names 1 files"):
        await spooled(downloader, batch)
    with pytest.raises(ProviderUnavailable):  # nothing is downloaded again meanwhile
        await spooled(downloader, batch)
    async with asyncio.timeout(30):
        while True:
            try:
                found = await spooled(downloader, batch)
                break
            except ProviderUnavailable:
                await asyncio.sleep(0.05)
    assert (found.lines.missing, len(found.file_ids)) == (0, 2)


async def test_a_batch_that_names_one_file_is_not_waited_for_when_nothing_is_missing(
    account: Account, downloader: Downloader
) -> None:
    found = await spooled(downloader, await ended(account))
    assert (found.lines.missing, len(found.file_ids)) == (0, 1)


async def test_a_file_that_is_never_named_is_waited_for_within_a_bound(
    account: Account, downloader: Downloader
) -> None:
    batch = await ended(account, {"batch": {"lines": [{"count": 1, "defect": "missing"}]}})
    with pytest.raises(ProviderUnavailable):
        await spooled(downloader, batch)
    downloader.file_gone_seconds = 0.0
    assert (await spooled(downloader, batch)).lines.missing == 1


@pytest.mark.defence("size_not_needed")
@pytest.mark.outcome("file-size-unknown")
@pytest.mark.parametrize("status", [404, 400, 500])
async def test_a_file_that_can_be_downloaded_is_not_refused_because_nobody_tells_its_size(
    account: Account, downloader: Downloader, status: int
) -> None:
    """Off: a paid result waits for an answer that is not needed."""
    batch = await ended(account)
    await account.simulator.faults([{"operation": "files.retrieve", "http": {"status": status}}])
    size = len(await downloads(account, batch))
    refused: ProviderError | None = None
    try:
        async with downloader.spooled(batch, long_lease()) as found:
            assert downloader.spool.downloads.taken == size, "its room is reserved by the announced length"
    except ProviderError as error:
        refused = error
    assert refused is None, "it was not downloaded"
    assert (found.lines.missing, found.lost) == (0, False), "it was not downloaded"


@pytest.mark.outcome("file-size-wrong")
async def test_a_size_that_is_told_wrongly_costs_no_time_where_nothing_is_missing(
    account: Account, downloader: Downloader
) -> None:
    batch = await ended(account)
    await account.simulator.faults([{"operation": "files.retrieve", "http": {"bytes_off": 2570}}])
    assert (await spooled(downloader, batch)).lines.missing == 0
    assert downloader.wrong_sizes == {batch.key.account}


@pytest.mark.defence("second_opinion")
@pytest.mark.outcome("file-size-wrong", "download-short")
async def test_a_body_that_ends_early_as_if_it_were_whole_is_not_believed_at_once(
    account: Account, downloader: Downloader
) -> None:
    """It ends between two lines. Off: the other line counts as missing, and is paid for again."""
    downloader.file_gone_seconds = 0.0
    batch = await ended(account)
    first = (await downloads(account, batch)).index(b"\n") + 1
    await account.simulator.faults([{"operation": "files.content", "times": 1, "http": {"truncate_to_bytes": first}}])
    with pytest.raises(ProviderUnavailable, match=f"{first} bytes came of"):
        await spooled(downloader, batch)
    assert (await spooled(downloader, batch)).lines.missing == 0


@pytest.mark.outcome("file-size-wrong")
async def test_two_whole_downloads_seconds_apart_that_agree_are_believed_though_lines_are_missing(
    account: Account, downloader: Downloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloader.file_gone_seconds = 0.0
    batch = await ended(account, {"batch": {"lines": [{"count": 1, "defect": "missing"}]}})
    await account.simulator.faults([{"operation": "files.retrieve", "http": {"bytes_off": -5}}])
    for _ in range(2):  # the second comes too soon
        with pytest.raises(ProviderUnavailable):
            await spooled(downloader, batch)
    monkeypatch.setattr(module, "PROVEN_SECONDS", 0.0)
    assert (await spooled(downloader, batch)).lines.missing == 1


async def test_a_body_whose_last_line_is_cut_has_to_agree_minutes_apart(
    account: Account, downloader: Downloader
) -> None:
    batch = await ended(account)
    size = (await downloads(account, batch)).index(b"\n") + 20
    await account.simulator.faults([{"operation": "files.content", "http": {"truncate_to_bytes": size}}])
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await spooled(downloader, batch)
    for suspicion in downloader.suspicions.values():
        suspicion.since -= module.PROVEN_SECONDS * 2
    with pytest.raises(ProviderUnavailable):
        await spooled(downloader, batch)


@pytest.mark.defence("nameless_lines")
@pytest.mark.outcome("line-nameless")
async def test_what_is_missing_beside_lines_that_name_nobody_is_unreadable(
    account: Account, downloader: Downloader
) -> None:
    """Off: it goes again as if it had not been executed, without end."""
    downloader.file_gone_seconds = 0.0
    batch = await ended(account, {"batch": {"lines": [{"count": 1, "written": {"custom_id": None}}]}})
    with pytest.raises(ProviderUnavailable, match="cannot be read"):
        await spooled(downloader, batch)
    found = (await spooled(downloader, batch)).judged()
    assert sorted(found) == [Kind.SUCCESS, Kind.UNREADABLE], "it is paid for without end"
