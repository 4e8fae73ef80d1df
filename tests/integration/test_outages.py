"""Whatever the service stands on goes away in the middle of a run and comes back: nothing is lost, nobody helps."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import API_KEY, WAIT_SECONDS, Bridge, open_bridge
from tests.support.conversation import Conversation
from tests.support.crash import until
from tests.support.group import generation
from tests.support.request import chat
from tests.support.service import Service
from tests.support.stack import admin_client

AWAY_SECONDS = 2
ROUNDS = 15
OUTAGE_SECONDS = 120.0
POLL_INTERVAL_SECONDS = 4.0


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("outages")
    simulator = {"in_progress_seconds": 0.5}
    async with (
        open_bridge(kafka, postgres, folder, simulator=simulator) as bridge,
        bridge.service(intake_linger_seconds=0.2) as service,
    ):
        yield Conversation(bridge, service)


class Run:
    """Requests that go on being produced, and a look at readiness, while something is away."""

    def __init__(self, talk: Conversation, name: str) -> None:
        self.talk = talk
        self.name = name
        self.not_ready = 0
        self.sent: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.create_task(self.produce()), asyncio.create_task(self.watch())]
        await self.talk.answers([f"{self.name}-0"])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.tasks[0]
        await self.talk.answers(self.sent, hurry=True, timeout_seconds=OUTAGE_SECONDS)
        self.tasks[1].cancel()
        await asyncio.gather(self.tasks[1], return_exceptions=True)

    async def produce(self) -> None:
        """Some requests at a time; while Kafka is away the producer keeps them."""
        for _ in range(ROUNDS):
            lines = [chat(f"{self.name}-{len(self.sent) + each}") for each in range(5)]
            await self.talk.bridge.produce(lines)
            self.sent += [each["custom_id"] for each in lines]
            await asyncio.sleep(0.2)

    async def watch(self) -> None:
        """Count the times that the service is not ready."""
        while True:
            self.not_ready += not await asyncio.to_thread(self.talk.service.is_ready)
            await asyncio.sleep(0.05)


async def members(bridge: Bridge) -> list[Any]:
    """The group's members with their assignments, which a new generation would change."""
    async with admin_client(bridge.kafka) as admin:
        [answer] = await admin.describe_consumer_groups([f"penstock-{bridge.deployment}"])
        return list(answer.groups)


@pytest.mark.outcome("provider-down", "create-unreachable")
async def test_the_provider_goes_and_comes_back(talk: Conversation) -> None:
    async with Run(talk, "provider") as run:
        await talk.bridge.simulator.kill()
        await asyncio.sleep(AWAY_SECONDS)

        async def told() -> bool:
            return degraded(talk.service) == {"account default": "it does not answer"}

        await until(told)
        await talk.bridge.simulator.start()
    assert run.not_ready == 0
    assert degraded(talk.service) == {}
    assert not await talk.bridge.sql("SELECT FROM batch WHERE refusals > 0 OR verdict_code <> ''")
    await talk.check()


@pytest.mark.outcome("postgres-away")
async def test_postgres_goes_and_comes_back_and_the_group_does_not_notice(
    talk: Conversation, postgres: EmbeddedPostgres
) -> None:
    await talk.service.reached("penstock_partitions_assigned", 1)  # it is ready before it has joined
    before = await members(talk.bridge), await talk.service.metric("penstock_rebalances_total")
    async with Run(talk, "postgres") as run:
        await postgres.kill()
        await asyncio.sleep(AWAY_SECONDS)
        await postgres.start()
    assert run.not_ready == 0
    assert (await members(talk.bridge), await talk.service.metric("penstock_rebalances_total")) == before
    assert not [each for each in talk.service.logs("stage.round_failed") if each["level"] == "error"]
    await talk.check()


@pytest.mark.defence("stay_in_group")
@pytest.mark.outcome("postgres-away")
async def test_the_group_does_not_notice_a_database_that_is_away_for_longer_than_the_client_may_go_without_a_poll(
    bridge: Bridge, postgres: EmbeddedPostgres
) -> None:
    """The ten minutes of `tests.benchmark.postgres_away`, in seconds. Off: nobody polls while positions are awaited."""
    group = f"penstock-{bridge.deployment}"
    async with bridge.service(altered=["--poll-interval", str(POLL_INTERVAL_SECONDS)]):
        await bridge.produce([chat("before")])
        await bridge.results(1)
        before = await generation(bridge.kafka.bootstrap_servers, group)
        await postgres.kill()
        await bridge.produce([chat("meanwhile")])
        await asyncio.sleep(2 * POLL_INTERVAL_SECONDS)
        await postgres.start()
        await bridge.results(2)
        assert await generation(bridge.kafka.bootstrap_servers, group) == before, "the group rebalanced"
        await bridge.check()


@pytest.mark.outcome("kafka-away")
async def test_kafka_goes_and_comes_back(talk: Conversation, kafka: EmbeddedKafka) -> None:
    async with Run(talk, "kafka") as run:
        await kafka.kill()
        await asyncio.sleep(AWAY_SECONDS)
        await kafka.start()
    assert run.not_ready == 0
    await talk.check()


def degraded(service: Service) -> dict[str, str]:
    """What a ready replica tells of its provider."""
    found: dict[str, str] = json.loads(service.get("/readyz"))["degraded"]
    return found


async def halted(service: Service, event: str) -> None:
    """Wait until the account is halted, and told so."""
    await service.reached("penstock_account_halted", 1)
    said = await service.logged(event)
    assert said.get("fix") or said.get("mend")
    assert degraded(service) == {"account default": "it is refused"}


async def told(bridge: Bridge) -> set[tuple[str, str]]:
    """By stage, why `penstock status` says that the account is halted."""
    return {(row["stage"], row["code"]) for row in await bridge.sql("SELECT stage, code FROM account_halt")}


@pytest.mark.defence("known_key")
@pytest.mark.outcome("key-revoked", "key-changed")
async def test_a_key_that_is_revoked_or_another_projects_halts_the_account_until_its_file_is_mended(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path, defences_off: tuple[str, ...]
) -> None:
    """Off: what comes meanwhile is sent with the wrong key."""
    key_file = tmp_path / "key"
    key_file.write_text("sk-revoked\n")
    other: list[dict[str, Any]] = [
        {"when": {"key": "sk-revoked"}, "http": {"status": 401}},
        {"operation": "*.retrieve", "when": {"key": "sk-other"}, "http": {"status": 404}},
        {"operation": "*.content", "when": {"key": "sk-other"}, "http": {"status": 404}},
        {"operation": "*.list", "when": {"key": "sk-other"}, "http": {"hide_newer_than_seconds": 3600}},
        {"operation": "files.create", "when": {"key": "sk-other"}, "http": {"delay_seconds": 0.01}},
        {"operation": "batches.create", "when": {"key": "sk-other"}, "http": {"delay_seconds": 0.01}},
    ]
    simulator = {"in_progress_seconds": 4}
    async with (
        open_bridge(kafka, postgres, tmp_path, partitions=1, simulator=simulator, defences_off=defences_off) as bridge,
        bridge.service(provider_api_key="", provider_api_key_file=key_file) as service,
    ):
        talk, lines = Conversation(bridge, service), [chat(f"key-{number}") for number in range(5)]
        others = [chat(f"other-{number}", model="gpt-4o") for number in range(5)]  # whose tokens nothing holds up
        await bridge.produce(lines)
        async with asyncio.timeout(WAIT_SECONDS):
            while not (await bridge.simulator.control_state())["batches"].get("in_progress"):
                await asyncio.sleep(0.02)
        await bridge.simulator.faults(other)
        await halted(service, "account.denied")
        assert await told(bridge) == {("poller", "invalid_api_key")}
        key_file.write_text("sk-other\n")
        await halted(service, "account.empty")
        assert await told(bridge) == {("poller", "batches_unknown")}
        await bridge.produce(others)
        await service.logged("key.strange")
        await asyncio.sleep(1.0)  # nothing may come of it
        assert (await bridge.simulator.fired())[-2:] == [0, 0], "something was sent with another project's key"
        key_file.write_text(f"{API_KEY}\n")
        await talk.answers([each["custom_id"] for each in [*lines, *others]], hurry=True)
        assert await service.metric("penstock_account_halted") == 0
        assert degraded(service) == {}
        assert await told(bridge) == set()
        await talk.check()
