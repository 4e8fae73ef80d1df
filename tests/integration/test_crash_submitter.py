"""Crash points 7 to 10: a submitter dies, loses an answer or wakes late, and each window is paid once."""

import asyncio

import pytest

from tests.support.bridge import Bridge
from tests.support.crash import REST, batches, chats, input_files, settled, until
from tests.support.service import started

LATE_SECONDS = 2.5
"""Longer than the submitter rests after a loss, shorter than until a look-up decides."""


@pytest.mark.defence("lease_expiry")
async def test_a_batch_whose_builder_died_is_built_by_another_replica(bridge: Bridge) -> None:
    """Crash point 7: killed after the claim. Off: a lease ends only when its holder gives it back."""
    async with bridge.service(failpoints="files.create=before:kill") as first:
        await bridge.produce(chats(10), partition=0)
        assert await first.exited() == -9
    async with bridge.service(stages=REST):
        await settled(bridge, 10)
    assert batches(bridge) == 1


@pytest.mark.defence("deterministic_file")
@pytest.mark.outcome("upload-cut")
async def test_a_file_that_was_uploaded_and_not_noted_is_found_by_its_name(bridge: Bridge) -> None:
    """Crash point 8: killed between the upload and its note. Off: no file is looked for."""
    files = await files_after_a_kill(bridge, refusals=0)
    assert files == 1, f"{files} files were uploaded for one batch"


@pytest.mark.defence("refused_file")
async def test_the_file_of_a_batch_that_was_refused_is_not_used_again(bridge: Bridge) -> None:
    """The file may be at fault. Off: it is adopted like any other."""
    files = await files_after_a_kill(bridge, refusals=1)
    assert files == 2, "the file of a refused batch was used again"


async def files_after_a_kill(bridge: Bridge, *, refusals: int) -> int:
    """Files that are uploaded when the first submitter is killed before it has noted the first."""
    async with bridge.service(failpoints="files.create=after:kill") as first:
        await bridge.produce(chats(10), partition=0)
        assert await first.exited() == -9
    await bridge.sql("UPDATE batch SET refusals = $1", refusals)
    async with bridge.service(stages=REST):
        await settled(bridge, 10)
    return await input_files(bridge)


@pytest.mark.defence("intent_look_up", "deciding_scan", "sdk_create_retries")
@pytest.mark.outcome("create-5xx-done", "create-timeout-done", "create-late", "create-sdk-retry")
async def test_a_create_whose_answer_was_lost_is_looked_up_before_another(bridge: Bridge) -> None:
    """Crash point 9: a create is done and its answer dropped, or an error, or it lands late.

    Off: taken as never made; or decided by the first look-up; or retried by the SDK.
    """
    late = {"effect": "late", "late_seconds": LATE_SECONDS}
    lost = [{"drop": True, "effect": "done"}, {"status": 500, "effect": "done"}, late]
    await bridge.simulator.faults([{"operation": "batches.create", "times": 1, "http": each} for each in lost])
    async with bridge.service(provider_timeout_seconds=2, submitter_settle_seconds=3):
        for model in ("gpt-4o", "gpt-4o-mini", "gpt-4.1"):
            await bridge.produce(chats(5, model, model=model), partition=0)
        await settled(bridge, 15)
        await asyncio.sleep(LATE_SECONDS)  # whatever was decided of it, it lands
        await bridge.check()
    assert await bridge.simulator.fired() == [1, 1, 1]
    assert batches(bridge) == 3


@pytest.mark.defence("lease_required")
async def test_a_creator_that_wakes_late_creates_nothing(bridge: Bridge) -> None:
    """Crash point 10: asleep between intent and create. Off: the lease is not looked at before the create."""
    async with started(bridge.service(failpoints="submitter.intend=after:pause")) as zombie:
        await bridge.produce(chats(10), partition=0)
        await zombie.paused()
        async with bridge.service(stages=REST, provider_timeout_seconds=2):
            await bridge.results(10)
            zombie.wake()

            async def acted() -> bool:
                return bool(zombie.logs("batch.superseded") or batches(bridge) > 1)

            await until(acted)
            await settled(bridge, 10)
    assert batches(bridge) == 1
