"""`penstock resume partition` after a partition has really halted."""

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.support.bridge import Bridge
from tests.support.command import penstock
from tests.support.request import chat
from tests.support.stack import admin_client


@pytest.mark.outcome("retention-passed")
async def test_a_partition_that_lost_messages_goes_on_after_telling_so(bridge: Bridge) -> None:
    async with bridge.service():
        await bridge.produce([chat("before")], partition=1)
        await bridge.results(1)
    await bridge.produce([chat(f"request-{n}") for n in range(10)], partition=1)
    async with admin_client(bridge.kafka) as admin:
        await admin.delete_records({TopicPartition(bridge.requests, 1): RecordsToDelete(before_offset=6)})
    async with bridge.service() as service:
        halted = await service.logged("partition.halted")
        assert halted["mend"] == f"penstock resume partition {bridge.requests} 1"

    refused = await penstock(bridge.environment(), "resume", "partition", bridge.requests, 1, given=b"n\n")
    assert refused.code == 1
    assert "5 offsets from 1 are no longer in the topic" in refused.out
    outside = await penstock(bridge.environment(), "resume", "partition", bridge.requests, 1, "--at", 3, "--yes")
    assert (outside.code, outside.err) == (2, "penstock: --at takes 6 to 11, which is what the topic holds\n")
    resumed = await penstock(bridge.environment(), "resume", "partition", bridge.requests, 1, "--yes")
    assert resumed.code == 0, resumed
    assert resumed.out.endswith("goes on at 6 within a minute\n")

    async with bridge.service() as service:
        results = await bridge.results(6)
        assert not service.logs("partition.halted")
    assert {result.custom_id for result in results} == {"before", *(f"request-{n}" for n in range(5, 10))}


async def test_what_postgres_lost_is_told_to_double(bridge: Bridge) -> None:
    async with bridge.service():
        await bridge.produce([chat(f"request-{n}") for n in range(5)], partition=2)
        await bridge.results(5)
    await bridge.sql("UPDATE position SET position = 2 WHERE partition = 2")
    async with bridge.service() as service:
        await service.logged("partition.halted")
    resumed = await penstock(bridge.environment(), "resume", "partition", bridge.requests, 2, "--at", 5, given=b"y\n")
    assert resumed.code == 0, resumed
    assert "3 offsets before 5 are skipped" in resumed.out
    async with bridge.service() as service:
        await bridge.produce([chat("after")], partition=2)
        await bridge.results(6)
        assert not service.logs("partition.halted")


async def test_what_is_not_there_or_not_halted_is_refused(bridge: Bridge) -> None:
    async with bridge.service():
        await bridge.produce([chat("request")], partition=0)
        await bridge.results(1)
    for arguments, said in (
        ([bridge.result_topic, 0], "is none of PENSTOCK_KAFKA_REQUEST_TOPICS"),
        ([bridge.requests, 9], "there is no partition 9"),
        ([bridge.requests, 0], "the partition is not halted"),
    ):
        finished = await penstock(bridge.environment(), "resume", "partition", *arguments, "--yes")
        assert finished.code == 2
        assert said in finished.err
