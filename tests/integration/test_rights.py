"""The rights that the service needs, on a broker that asks for each of them."""

from collections.abc import AsyncIterator

import pytest

from penstock.cli.finding import Level, Part
from penstock.cli.preflight import Preflight
from penstock.core.identity import slot_prefix
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.kafka.layout import wanted_topics
from penstock.kafka.right import Operation, Right
from penstock.kafka.rights import needed_rights
from penstock.settings import load_settings
from tests.support.authorizer import AuthorizingKafka
from tests.support.bridge import Bridge, open_bridge
from tests.support.crash import until
from tests.support.request import chat
from tests.support.stack import running

CHECKS = 5


@pytest.fixture(scope="module")
async def kafka() -> AsyncIterator[AuthorizingKafka]:
    async with running(AuthorizingKafka) as server:
        yield server


@pytest.fixture(scope="module")
async def bridge(
    kafka: AuthorizingKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bridge]:
    async with open_bridge(kafka, postgres, tmp_path_factory.mktemp("rights"), partitions=1) as opened:
        yield opened


@pytest.fixture
async def rights(kafka: AuthorizingKafka, bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> list[Right]:
    """Exactly what the service needs, granted; the environment is the service's."""
    for name, value in bridge.environment(**kafka.login).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    wanted = wanted_topics(settings.kafka, settings.read_lanes(), settings.publisher.slots)
    needed = needed_rights(wanted, settings.group, slot_prefix(settings.deployment))
    for each in needed:
        await kafka.grant(each)
    await until_missing([])
    return needed


async def problems() -> list[tuple[str, str]]:
    """What `penstock check` says of the brokers."""
    preflight = Preflight(frozenset({Part.KAFKA}))
    await preflight.run()
    return [(each.text, each.mend) for each in preflight.findings if each.level is Level.PROBLEM]


async def until_missing(rights: list[Right]) -> None:
    """Wait until these rights are what `penstock check` misses, and nothing else is wrong: brokers take a while."""
    found: list[tuple[str, str]] = []

    async def told() -> bool:
        found[:] = await problems()
        return found == [(f"the brokers do not allow {each}", each.command) for each in rights]

    try:
        await until(told)
    except Exception as error:
        raise AssertionError(f"{found} instead of {rights}") from error


async def test_with_the_least_set_of_rights_the_service_answers_and_checks_disturb_nothing(
    kafka: AuthorizingKafka, bridge: Bridge, rights: list[Right]
) -> None:
    assert rights
    async with bridge.service(**kafka.login) as service:
        await bridge.produce([chat("first")])
        await bridge.results(1)
        rebalances = await service.metric("penstock_rebalances_total")
        for number in range(CHECKS):
            assert await problems() == []
            await bridge.produce([chat(f"beside-{number}")])
            await bridge.results(2 + number)
        assert await service.metric("penstock_rebalances_total") == rebalances
        assert not [each for each in service.text().splitlines() if "Fenced" in each or "round_failed" in each]
        await bridge.check()


async def test_each_right_that_is_missing_is_named_with_the_command_that_adds_it(
    kafka: AuthorizingKafka, rights: list[Right]
) -> None:
    for right in rights:
        await kafka.revoke(right)
        await until_missing([right])
        await kafka.grant(right)
    await until_missing([])


async def test_settings_that_may_not_be_read_are_no_wrong_cleanup_policy(
    kafka: AuthorizingKafka, bridge: Bridge, rights: list[Right]
) -> None:
    (right,) = (each for each in rights if (each.name, each.operation) == (bridge.ledger, Operation.DESCRIBE_CONFIGS))
    await kafka.revoke(right)
    await until_missing([right])
    service = bridge.service(**kafka.login)
    await service.start()
    assert await service.exited() != 0
    assert f"Kafka does not allow {right}: {right.command}" in service.text()
    assert "cleanup.policy" not in service.text()
