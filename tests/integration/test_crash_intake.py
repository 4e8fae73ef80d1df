"""Crash points 1 to 4: intake dies, loses an answer or wakes late, and every record is stored once."""

from contextlib import AsyncExitStack

import pytest

from tests.support.bridge import Bridge
from tests.support.crash import answered, bury, chats, settled, until
from tests.support.service import started


@pytest.mark.defence("commit_after_store")
async def test_what_was_consumed_and_not_stored_is_read_again(bridge: Bridge) -> None:
    """Crash point 1: killed with records in its hands. Off: Kafka's offset is committed first."""
    async with bridge.service(failpoints="intake.store=before:kill") as first:
        await bridge.produce(chats(20))
        assert await first.exited() == -9
    await bury(bridge)
    async with bridge.service():
        await settled(bridge, 20)


@pytest.mark.defence("one_transaction", "discard_in_flight")
async def test_a_store_that_failed_or_whose_answer_was_lost_is_read_again_from_the_position(bridge: Bridge) -> None:
    """Crash point 2: a commit that failed, then one that did not. Off: two transactions; or going on from memory."""
    async with bridge.service(failpoints="intake.store=before:raise;intake.store=after:lose") as service:
        await bridge.produce(chats(20))
        await service.reached("penstock_stage_failures_total", 1, stage="intake")
        await bridge.produce(chats(10, "later"))
        await settled(bridge, 30)


@pytest.mark.defence("seek_to_position")
async def test_what_was_stored_is_not_read_again_though_kafka_never_heard_of_it(bridge: Bridge) -> None:
    """Crash point 3: killed between the store and Kafka's commit. Off: the next owner starts at Kafka's offset."""
    async with bridge.service(failpoints="intake.commit=before:kill") as first:
        await bridge.produce(chats(20))
        assert await first.exited() == -9
    await bury(bridge)
    async with bridge.service():
        await bridge.produce(chats(10, "later"))
        await settled(bridge, 30)


@pytest.mark.defence("position_compare", "first_position_once")
async def test_a_zombie_stores_nothing_of_a_partition_that_has_another_owner(bridge: Bridge) -> None:
    """Crash point 4: a replica sleeps through its first assignment, then with records in its hands.

    The other owner is of another group: positions know nothing of groups, and no session need time out. Off: nothing
    is compared when storing; or a first assignment sets the position whatever stands there.
    """
    pauses = "intake.ensure_positions=before:pause;intake.store=before:pause"
    async with AsyncExitStack() as stack:
        zombie = await stack.enter_async_context(started(bridge.service(failpoints=pauses, kafka_group="a")))
        await zombie.paused()
        await stack.enter_async_context(bridge.service(kafka_group="b"))
        await bridge.produce(chats(20))
        await bridge.results(20)
        zombie.wake()
        await zombie.logged("partitions.assigned")
        await bridge.produce(chats(20, "later"))
        await zombie.paused()
        await answered(bridge, 40)
        zombie.wake()

        async def acted() -> bool:
            refused = await zombie.metric("penstock_stage_failures_total", stage="intake")
            return bool(refused or await zombie.metric("penstock_requests_received_total"))

        await until(acted)
        await settled(bridge, 40)
