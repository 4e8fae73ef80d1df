"""Crash points 14 to 16 and 20: a publisher dies, loses an answer or wakes late, and each result is read once."""

from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.support.bridge import Bridge
from tests.support.crash import REST, answered, batches, chats, settled, until
from tests.support.request import embedding
from tests.support.service import started
from tests.support.stack import admin_client

SMALL: dict[str, Any] = {"intake_requests_max": 10, "publisher_transaction_records_max": 1}
"""Transactions of ten results: as many as a chunk holds."""
LANES = "[defaults]\nage_max_seconds = 1.5\nretry_min_seconds = 0.2\n"


@pytest.mark.defence("ledger_read", "lines_by_id")
async def test_a_publisher_killed_between_its_transactions_is_followed_from_where_it_stood(bridge: Bridge) -> None:
    """Crash points 14 and 13: killed in the second transaction, and the next download comes in another order.

    Off: no ledger is read; or lines are taken in the order of the file.
    """
    bridge.lanes.write_text(LANES)
    await bridge.simulator.faults([{"batch": {"reordered": True}}])
    async with bridge.service(failpoints="publisher.commit=before:kill@2", **SMALL) as first:
        await bridge.produce(chats(30), partition=0)
        assert await first.exited() == -9
    async with bridge.service(stages=REST, **SMALL):
        report = await settled(bridge, 30)
    assert report["aborted"]


@pytest.mark.defence("ledger_read")
async def test_a_commit_whose_answer_was_lost_is_not_made_again(bridge: Bridge) -> None:
    """Crash point 15: the transaction is committed, and its answer lost. Off: no ledger is read."""
    async with bridge.service(failpoints="publisher.commit=after:lose") as service:
        await bridge.produce(chats(20), partition=0)
        await settled(bridge, 20)
        assert service.logs("slot.lost")


@pytest.mark.defence("ledger_read", "ledger_key_after_mark")
async def test_what_is_published_and_not_marked_is_marked_and_not_published_again(bridge: Bridge) -> None:
    """Crash point 16: killed between the commit and the mark. Off: no ledger is read; or its key is gone by then."""
    async with bridge.service(failpoints="publisher.mark=before:kill") as first:
        await bridge.produce(chats(20), partition=0)
        assert await first.exited() == -9
    async with bridge.service(stages=REST) as second:
        await settled(bridge, 20)
        assert second.logs("batch.published"), "it is never marked"


@pytest.mark.defence("await_sends")
async def test_a_transaction_in_which_a_send_failed_is_not_committed(bridge: Bridge) -> None:
    """Crash point 15: the broker refuses the results and takes the ledger's record. Off: sends are not looked at."""
    async with bridge.service() as service:
        await set_record_bytes(bridge, "200")
        await bridge.produce(chats(20), partition=0)

        async def acted() -> bool:
            return bool(service.logs("slot.lost") or service.logs("batch.published"))

        await until(acted)
        await set_record_bytes(bridge, "1048576")
        await settled(bridge, 20)
    assert batches(bridge) == 1


async def test_a_topic_that_takes_less_than_a_usual_batch_of_records_gets_its_results(bridge: Bridge) -> None:
    await set_record_bytes(bridge, "20000")
    async with bridge.service():
        await bridge.produce([embedding(f"request-{n}", inputs=40) for n in range(30)], partition=0)
        await settled(bridge, 30)


async def set_record_bytes(bridge: Bridge, limit: str) -> None:
    """Change what the result topic takes."""
    async with admin_client(bridge.kafka) as admin:
        configs = {"max.message.bytes": limit}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, bridge.result_topic, configs)])


@pytest.mark.defence("fence", "producer_first")
async def test_a_publisher_asleep_in_its_transaction_holds_nobody_up_and_cannot_commit_it(bridge: Bridge) -> None:
    """Crash point 20: asleep right before a commit. Off: producers do not fence each other; or the ledger is read
    before the producer has started, hence before the open transaction is aborted."""
    settings: dict[str, Any] = {"publisher_transaction_timeout_seconds": 60}
    async with started(bridge.service(failpoints="publisher.commit=before:pause", **settings)) as zombie:
        await bridge.produce(chats(20), partition=0)
        await zombie.paused()
        async with bridge.service(stages=REST, **settings):
            meanwhile = await answered(bridge, 20)
            zombie.wake()
            await zombie.logged("slot.lost" if meanwhile else "batch.published")
            await settled(bridge, 20)
    assert meanwhile, "nothing was published while the publisher slept"
