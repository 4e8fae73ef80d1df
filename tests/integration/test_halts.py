"""One partition that halts, for whatever reason, holds up no other."""

import json
import signal

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from tests.support.bridge import Bridge
from tests.support.crash import chats, settled, until
from tests.support.poison import poison
from tests.support.request import chat
from tests.support.service import Service
from tests.support.stack import TopicFactory, admin_client, has_leaders

WIDE = 60
"""Partitions; to ask each of them for records that never come takes as many seconds."""


async def test_a_halted_partition_that_the_group_never_committed_holds_up_no_other(bridge: Bridge) -> None:
    async with bridge.service():
        await bridge.produce([chat("first")], partition=0)
        await bridge.results(1)
    await bridge.sql("UPDATE position SET halted_reason = 'a test' WHERE partition = 0")
    for partition in (0, 1, 2):
        await bridge.produce([chat(f"second-{partition}-{n}") for n in range(10)], partition=partition)
    async with bridge.service(kafka_group=f"{bridge.deployment}-new") as service:
        results = await bridge.results(21)
        assert await service.metric("penstock_intake_resets_total") < 20
        assert await service.metric("penstock_partitions_halted") == 1
        assert not [each for each in results if each.custom_id.startswith("second-0")]
    await bridge.sql("UPDATE position SET halted_reason = NULL")
    async with bridge.service():
        await bridge.results(31)
        await bridge.check()


async def test_a_halted_partition_throws_no_gathering_of_others_away_and_goes_on_once_it_may(bridge: Bridge) -> None:
    async with bridge.service():
        await bridge.produce([chat("first")], partition=0)
        await bridge.results(1)
    await bridge.sql("UPDATE position SET halted_reason = 'a test' WHERE partition = 0")
    await bridge.produce([chat("halted")], partition=0)
    await bridge.produce([chat("beside")], partition=1)
    async with bridge.service(
        altered=["--topic-check", "1"], kafka_session_seconds=30, intake_linger_seconds=4
    ) as service:
        await bridge.results(2)
        assert len(service.logs("partitions.assigned")) == 1
        await bridge.sql("UPDATE position SET halted_reason = NULL")
        await bridge.results(3)
        await bridge.check()


async def test_a_record_that_cannot_be_decoded_halts_its_partition_alone(bridge: Bridge) -> None:
    await poison(bridge, 0)
    for partition in (0, 1, 2):
        await bridge.produce([chat(f"request-{partition}-{n}") for n in range(10)], partition=partition)
    async with bridge.service() as service:
        await bridge.results(20)
        halt = await service.logged("partition.halted")
        assert (halt["partition"], halt["mend"]) == (0, f"penstock resume partition {bridge.requests} 0")
        assert "cannot be read" in halt["reason"]
    await bridge.sql("UPDATE position SET halted_reason = NULL, position = 1 WHERE partition = 0")
    async with bridge.service():
        results = await bridge.results(30)
    assert len({each.custom_id for each in results}) == 30


async def test_a_record_that_cannot_be_decoded_is_found_among_many_partitions_that_rest(
    bridge: Bridge, topic: TopicFactory
) -> None:
    bridge.requests = await topic("wide", partitions=WIDE)
    async with bridge.service() as service:
        await bridge.produce([chat("before")], partition=1)
        await bridge.results(1)
        await poison(bridge, 0)
        await service.logged("partition.halted")
        await bridge.produce([chat("after")], partition=1)
        await bridge.results(2, WIDE / 2)


async def halted_or_read_on(bridge: Bridge, service: Service, before: int) -> bool:
    """Wait until a partition halts or more results come; whether one halted."""

    async def acted() -> bool:
        return bool(service.logs("partition.halted")) or len(bridge.reader.received[bridge.result_topic]) > before

    await until(acted)
    return bool(service.logs("partition.halted"))


@pytest.mark.defence("no_silent_reset")
@pytest.mark.outcome("retention-passed")
async def test_messages_that_were_deleted_before_they_were_read_are_not_skipped_silently(bridge: Bridge) -> None:
    """Crash point 6: retention passed the position. Off: the client goes on where the topic now begins."""
    async with bridge.service():
        await bridge.produce(chats(1, "before"), partition=1)
        await bridge.results(1)
    await bridge.produce(chats(10), partition=1)
    async with admin_client(bridge.kafka) as admin:
        await admin.delete_records({TopicPartition(bridge.requests, 1): RecordsToDelete(before_offset=6)})
    async with bridge.service() as service:
        assert await halted_or_read_on(bridge, service, 1), "what was deleted was skipped, and nobody told"
        halt = service.logs("partition.halted")[0]
        assert (halt["partition"], halt["mend"]) == (1, f"penstock resume partition {bridge.requests} 1")
        await bridge.produce(chats(10, "beside"), partition=0)
        await bridge.results(11)


@pytest.mark.parametrize("kept", [1, 0], ids=["committed", "aborted"])
async def test_a_log_that_was_emptied_behind_a_transaction_that_was_read_halts_nothing(
    bridge: Bridge, kept: int
) -> None:
    """Its last offset is a marker: who stands after its last record stands before the log's beginning."""
    own = f"theirs-{bridge.deployment}"
    async with AIOKafkaProducer(bootstrap_servers=bridge.kafka.bootstrap_servers, transactional_id=own) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(bridge.requests, json.dumps(chat("theirs")).encode(), partition=1)
        await (producer.commit_transaction() if kept else producer.abort_transaction())
    async with bridge.service() as service:
        await bridge.results(kept)
        await at_end(bridge, 1, 2)
        await service.fell_to("penstock_consumer_lag_records", 0)
    async with admin_client(bridge.kafka) as admin:
        await admin.delete_records({TopicPartition(bridge.requests, 1): RecordsToDelete(before_offset=2)})
    async with bridge.service() as service:
        await bridge.produce(chats(1, "after"), partition=1)
        await bridge.results(kept + 1)
        assert service.logs("partition.halted") == []


async def at_end(bridge: Bridge, partition: int, end: int) -> None:
    """Wait until Postgres stands where a partition ends."""

    async def stands_at_its_end() -> bool:
        rows = await bridge.sql("SELECT position FROM position WHERE partition = $1", partition)
        return [row["position"] for row in rows] == [end]

    await until(stands_at_its_end)


@pytest.mark.defence("topic_ids")
@pytest.mark.outcome("topic-recreated")
async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(bridge: Bridge) -> None:
    """Crash point 6: deleted and made again. Off: a topic is what its name says, and stands where the old one stood."""
    async with bridge.service():
        await bridge.produce(chats(5, "before"), partition=0)
        await bridge.results(5)
    await make_anew(bridge)
    await bridge.produce(chats(8), partition=0)
    async with bridge.service():
        results = await bridge.results(5 + 8)
    assert len({each.custom_id for each in results}) == 5 + 8


@pytest.mark.outcome("topic-recreated")
async def test_a_topic_made_anew_and_filled_between_two_fetches_is_read_from_its_beginning(bridge: Bridge) -> None:
    async with bridge.service(kafka_session_seconds=30) as service:
        await bridge.produce(chats(5, "before"), partition=0)
        await bridge.results(5)
        service.send(signal.SIGSTOP)  # it notices nothing, and fetches on from 5
        await make_anew(bridge)
        await bridge.produce(chats(8), partition=0)
        service.wake()
        await bridge.results(5 + 8)
        await bridge.produce(chats(1, "after"), partition=0)
        results = await bridge.results(5 + 8 + 1)
    assert len({each.custom_id for each in results}) == len(results) == 5 + 8 + 1


async def make_anew(bridge: Bridge) -> None:
    """Delete the request topic and make another one of the same name."""
    async with admin_client(bridge.kafka) as admin:
        await admin.delete_topics([bridge.requests])
        while (await admin.create_topics([NewTopic(bridge.requests, 3, 1)])).topic_errors[0][1]:
            pass  # the old one is still being deleted
        while not await has_leaders(admin, bridge.requests):
            pass


@pytest.mark.defence("went_back")
@pytest.mark.parametrize("lost", ["position = 2", None], ids=["behind", "unknown"])
@pytest.mark.outcome("position-lost")
async def test_a_partition_whose_position_postgres_lost_halts(bridge: Bridge, lost: str | None) -> None:
    """Crash point 5: Postgres was restored to an earlier time. Off: it is read again from where Postgres stands."""
    async with bridge.service():
        await bridge.produce(chats(5), partition=2)
        await settled(bridge, 5)
    await bridge.sql(f"UPDATE position SET {lost} WHERE partition = 2" if lost else "DELETE FROM position")
    async with bridge.service() as service:
        halted = await halted_or_read_on(bridge, service, 5)
        await settled(bridge, 5)
    assert halted, "Postgres lost data, and nobody told"
