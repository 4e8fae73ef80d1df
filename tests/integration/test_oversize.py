"""What its topic does not take (P8, crash point 17): results, dead letters, and all of a batch."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge, open_bridge
from tests.support.crash import chats, until
from tests.support.request import embedding
from tests.support.stack import TopicFactory, admin_client

LIMIT = 20_000


async def take(bridge: Bridge, topic: str, record_bytes: int) -> None:
    """Change the largest record that a topic takes."""
    async with admin_client(bridge.kafka) as admin:
        configs = {"max.message.bytes": str(record_bytes)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])


@pytest.mark.defence("oversize_result")
@pytest.mark.outcome("result-too-large")
async def test_a_result_larger_than_its_topic_takes_is_a_dead_letter_with_the_request(bridge: Bridge) -> None:
    """Off: it is sent, refused, and sent again; what shares its batch waits behind it."""
    await take(bridge, bridge.result_topic, LIMIT)
    async with bridge.service():
        large = embedding("large", inputs=300)
        await bridge.produce([large, *(embedding(f"small-{n}") for n in range(20))], partition=0)
        [letter] = await bridge.dead_letters(1)
        await bridge.results(20)
        assert (await bridge.check())["dead_letter_codes"] == {"result_too_large": 1}
    assert letter.json == large
    [(output_file_id, removed_at)] = await bridge.sql("SELECT output_file_id, files_removed_at FROM batch")
    assert letter.header("penstock.provider.file") == output_file_id
    assert removed_at is not None, "the janitor would delete it"


@pytest.mark.defence("refused_size")
@pytest.mark.outcome("result-too-large")
async def test_a_result_that_the_broker_refuses_for_its_size_is_a_dead_letter(bridge: Bridge) -> None:
    """The topic takes less than it did when the service started. Off: the result is sent again as it is."""
    async with bridge.service():
        await take(bridge, bridge.result_topic, LIMIT)
        await bridge.produce([embedding("large", inputs=3000), embedding("larger than it seems", inputs=300)])
        for letter in await bridge.dead_letters(2):
            assert letter.header("penstock.error.code") == "result_too_large"
        await bridge.check()
    [(removed_at,)] = await bridge.sql("SELECT files_removed_at FROM batch")
    assert removed_at is not None, "the janitor would delete the only copy of what was paid for"


@pytest.mark.defence("dead_letter_cut")
@pytest.mark.outcome("dead-letter-too-large")
async def test_a_dead_letter_too_large_for_its_topic_is_cut_and_says_what_it_was(bridge: Bridge) -> None:
    """Off: it is sent whole, refused, and sent again."""
    await take(bridge, bridge.dead_letter_topic, LIMIT)
    async with bridge.service():
        await bridge.produce([b'{"custom_id": ' + secrets.token_hex(LIMIT).encode()], key=b"key")
        [letter] = await bridge.dead_letters(1)
        assert (await bridge.check())["dead_letter_codes"] == {"invalid_json": 1}
    assert len(letter.value or b"") < LIMIT


@pytest.fixture
async def refusing(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    topic: TopicFactory,
    tmp_path: Path,
    defences_off: tuple[str, ...],
) -> AsyncIterator[tuple[Bridge, str]]:
    """A bridge with one slot, and a result topic of the lane `refused`."""
    name = await topic("refusing")
    lanes = f'[defaults]\nage_max_seconds = 0.5\n\n[[lane]]\nmodel = "refused"\nresult_topic = "{name}"\n'
    async with open_bridge(kafka, postgres, tmp_path, lanes=lanes, defences_off=defences_off) as bridge:
        yield bridge, name


@pytest.mark.defence("parked_and_waits")
@pytest.mark.outcome("topic-refuses")
async def test_a_batch_whose_topic_refuses_is_set_aside_and_its_slot_goes_on(refusing: tuple[Bridge, str]) -> None:
    """Off: it is tried first again and again, and nothing behind it is published."""
    bridge, name = refusing
    settings: dict[str, Any] = {"publisher_slots": 1}
    async with bridge.service(**settings) as service:
        async with admin_client(bridge.kafka) as admin:
            await admin.delete_topics([name])
        await bridge.produce(chats(5, "refused", model="refused"))
        assert (await service.logged("batch.parked"))["level"] == "error"
        await bridge.produce(chats(5, "behind"))
        await bridge.results(5)

        async def parked() -> bool:
            return bool(await bridge.sql("SELECT 1 FROM batch WHERE state = 'decided'"))

        await until(parked)
