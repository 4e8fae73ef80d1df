"""Webhooks hint and polling decides: two replicas that poll every ten minutes, and a provider that tells them."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.embedded.server import free_port
from tests.support.bridge import Bridge, open_bridge
from tests.support.conversation import Conversation, chats
from tests.support.receiver import SECRET
from tests.support.service import Service

SLOW = {"poller_interval_seconds": 600, "poller_interval_max_seconds": 600}
DETECTION_SECONDS = 30.0
RECEIVED = "penstock_webhooks_total"


class Ground(NamedTuple):
    """The replica that polls is told nothing; the other one is told, and polls nothing."""

    bridge: Bridge
    talk: Conversation
    told: Service


@pytest.fixture(scope="module")
async def ground(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    defences_off: tuple[str, ...],
) -> AsyncIterator[Ground]:
    port, folder = free_port(), tmp_path_factory.mktemp("webhooks")
    simulator: dict[str, Any] = {"webhook_url": f"http://127.0.0.1:{port}/webhooks", "webhook_secret": SECRET}
    async with open_bridge(
        kafka, postgres, folder, partitions=1, simulator=simulator, defences_off=defences_off
    ) as bridge:
        hooks: dict[str, Any] = {"webhook_host": "127.0.0.1", "webhook_secret": SECRET, **SLOW}
        others = "intake,seal,submit,collect,publish,janitor"
        async with (
            bridge.service(webhook_port=0, stages="poll", **hooks) as polling,
            bridge.service(webhook_port=port, stages=others, **hooks) as told,
        ):
            yield Ground(bridge, Conversation(bridge, polling), told)


async def detection_seconds(bridge: Bridge, model: str) -> float:
    """The longest time from the end of a batch at the provider until it was known."""
    rows = await bridge.sql(
        "SELECT b.provider_batch_id, b.ended_at FROM batch AS b JOIN lane AS l ON l.id = b.lane_id WHERE l.model = $1",
        model,
    )
    assert rows
    async with bridge.simulator.client() as client:
        seen = [await client.batches.retrieve(row["provider_batch_id"]) for row in rows]
    ends = {batch.id: batch.completed_at or 0 for batch in seen}
    return max(float(row["ended_at"].timestamp() - ends[row["provider_batch_id"]]) for row in rows)


async def test_an_end_is_known_in_seconds_though_polling_takes_ten_minutes(ground: Ground) -> None:
    await ground.talk.ask(chats("told", 5))
    assert await detection_seconds(ground.bridge, "told") < DETECTION_SECONDS
    await ground.told.reached(RECEIVED, 1, outcome="accepted")
    await ground.talk.check()


@pytest.mark.outcome("webhook-doubled")
async def test_doubled_and_reordered_webhooks_harm_nothing(ground: Ground) -> None:
    rules = [
        {"when": {"model": "second"}, "webhook": {"copies": 3}},
        {"when": {"model": "first"}, "webhook": {"copies": 2, "delay_seconds": 1}},
    ]
    await ground.bridge.simulator.faults(rules)
    repeated = await ground.told.metric(RECEIVED, outcome="repeated")
    await ground.talk.ask([*chats("first", 3), *chats("second", 3)])
    await ground.told.reached(RECEIVED, repeated + 3, outcome="repeated")
    await ground.talk.check()


@pytest.mark.parametrize(
    ("webhook", "status", "outcome"),
    [
        ({"signature": "forged"}, 400, "forged"),
        ({"signature": "missing"}, 400, "forged"),
        ({"age_seconds": 302}, 400, "untimely"),
        ({"age_seconds": -302}, 400, "untimely"),
        ({"padding_bytes": 300_000}, 413, "too_large"),
    ],
)
@pytest.mark.outcome("webhook-forged")
async def test_what_is_not_the_providers_word_of_now_is_refused_and_counted(
    ground: Ground, webhook: dict[str, Any], status: int, outcome: str
) -> None:
    before = await ground.told.metric(RECEIVED, outcome=outcome)
    assert await ground.bridge.simulator.webhook("batch_refused", webhook=webhook) == [status]
    assert await ground.told.metric(RECEIVED, outcome=outcome) == before + 1
    assert not await ground.bridge.sql("SELECT FROM webhook WHERE provider_batch_id = 'batch_refused'")


@pytest.mark.outcome("webhook-doubled")
async def test_a_replay_is_taken_once_and_answered_well(ground: Ground) -> None:
    before = await ground.told.metric(RECEIVED, outcome="repeated")
    for _ in range(2):
        assert await ground.bridge.simulator.webhook("batch_any", webhook_id="wh_replayed") == [204]
    assert await ground.told.metric(RECEIVED, outcome="repeated") == before + 1
    assert len(await ground.bridge.sql("SELECT FROM webhook WHERE id = 'wh_replayed'")) == 1


async def test_an_event_of_something_else_is_ignored(ground: Ground) -> None:
    before = await ground.told.metric(RECEIVED, outcome="ignored")
    assert await ground.bridge.simulator.webhook("resp_1", type="response.completed") == [204]
    assert await ground.told.metric(RECEIVED, outcome="ignored") == before + 1


async def test_nothing_else_is_served_where_webhooks_come(ground: Ground) -> None:
    url = ground.bridge.simulator.options["webhook_url"]
    for path in (url, url.replace("/webhooks", "/metrics")):
        with pytest.raises(urllib.error.HTTPError) as raised:
            await asyncio.to_thread(urllib.request.urlopen, path, timeout=30)
        with raised.value as answer:
            assert answer.code in {404, 405}


@pytest.mark.outcome("webhook-lies")
async def test_a_hint_that_lies_is_looked_at_once_and_changes_nothing(ground: Ground) -> None:
    await ground.bridge.simulator.faults([{"when": {"model": "running"}, "batch": {"seconds": {"in_progress": 4}}}])
    await ground.bridge.produce(chats("running", 1))
    query = "SELECT provider_batch_id, state FROM batch AS b JOIN lane AS l ON l.id = b.lane_id WHERE model = 'running'"
    async with asyncio.timeout(60):
        while not (rows := await ground.bridge.sql(query)) or rows[0]["state"] != "submitted":
            await asyncio.sleep(0.05)
    assert await ground.bridge.simulator.webhook(rows[0]["provider_batch_id"], type="batch.cancelled") == [204]
    (answer,) = await ground.talk.answers(["running-0"])
    assert answer.json["response"]["status_code"] == 200
    await ground.talk.check()


async def test_what_is_old_enough_to_be_refused_is_forgotten(ground: Ground) -> None:
    await ground.bridge.simulator.webhook("batch_old", webhook_id="wh_old")
    await ground.bridge.sql("UPDATE webhook SET received_at = received_at - interval '16 minutes' WHERE id = 'wh_old'")
    async with asyncio.timeout(60):
        while await ground.bridge.sql("SELECT FROM webhook WHERE id = 'wh_old'"):
            await asyncio.sleep(0.1)


async def test_a_database_that_is_away_lets_a_webhook_come_again(ground: Ground) -> None:
    await ground.bridge.sql("ALTER TABLE webhook RENAME TO webhook_away")
    try:
        assert await ground.bridge.simulator.webhook("batch_any", webhook_id="wh_away") == [503]
    finally:
        await ground.bridge.sql("ALTER TABLE webhook_away RENAME TO webhook")
    assert await ground.bridge.simulator.webhook("batch_any", webhook_id="wh_away") == [204]
    assert await ground.told.metric(RECEIVED, outcome="lost") == 1
