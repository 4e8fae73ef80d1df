"""`penstock check` on a real Kafka and Postgres, and the simulator."""

from typing import Any

from tests.support.bridge import Bridge
from tests.support.command import penstock
from tests.support.stack import admin_client


def problems(report: Any) -> str:
    return " | ".join(each["text"] for each in report["findings"] if each["level"] == "problem")


async def test_what_is_well_passes(bridge: Bridge) -> None:
    finished = await penstock(bridge.environment(), "check", "--output", "json")
    assert (finished.code, problems(finished.json)) == (0, ""), finished
    text = await penstock(bridge.environment(), "check")
    assert "everything is ready" in text.out


async def test_every_problem_is_told_in_one_go(bridge: Bridge) -> None:
    environment = bridge.environment(
        kafka_ledger_topic=bridge.dead_letter_topic,
        kafka_dead_letter_topic="nowhere",
        provider_base_url="http://127.0.0.1:1/v1",
    )
    finished = await penstock(environment | {"PENSTOCK_SPOL_FOLDER": "x"}, "check", "--output", "json")
    assert finished.code == 1
    assert not finished.json["passed"]
    told = problems(finished.json)
    for each in (
        "PENSTOCK_SPOL_FOLDER",
        "cleanup.policy",
        "PENSTOCK_PUBLISHER_SLOTS",
        "nowhere",
        "127.0.0.1:1: connection refused",
    ):
        assert each in told, each


async def test_a_database_that_serves_another_deployment_is_told(bridge: Bridge) -> None:
    async with bridge.service():
        pass
    finished = await penstock(bridge.environment(deployment="another"), "check", "--output", "json")
    assert f"the database serves deployment {bridge.deployment}" in problems(finished.json)
    finished = await penstock(bridge.environment(kafka_ledger_topic=bridge.requests, kafka_request_topics="x"), "check")
    assert "is not the ledger that this deployment began with" in finished.out


async def test_topics_are_created_as_they_must_be(bridge: Bridge) -> None:
    names = {f"kafka_{kind}": f"{bridge.deployment}-{kind}" for kind in ("request_topics", "result_topic")}
    names |= {f"kafka_{kind}": f"{bridge.deployment}-{kind}" for kind in ("dead_letter_topic", "ledger_topic")}
    environment = bridge.environment(**names, publisher_slots=5)
    try:
        finished = await penstock(environment, "check", "--create-topics", "--partitions", 2, "--output", "json")
        assert finished.code == 0, finished
        async with admin_client(bridge.kafka) as admin:
            described = await admin.describe_topics(list(names.values()))
        partitions = {each["topic"]: len(each["partitions"]) for each in described}
        assert sorted(partitions.values()) == [2, 2, 2, 5]
        assert partitions[names["kafka_ledger_topic"]] == 5
        again = await penstock(environment, "check", "--create-topics")
        assert (again.code, "created test-" in again.out) == (0, False)
    finally:
        async with admin_client(bridge.kafka) as admin:
            await admin.delete_topics(list(names.values()))


async def test_topics_are_looked_at_alone(bridge: Bridge) -> None:
    environment = bridge.environment(
        kafka_result_topic=f"{bridge.result_topic}-new",
        postgres_dsn="postgresql://nobody@127.0.0.1:1/none",
        provider_base_url="http://127.0.0.1:1/v1",
    )
    finished = await penstock(environment, "check", "--only", "kafka", "--create-topics", "--output", "json")
    assert finished.code == 0, finished
    parts = {each["part"] for each in finished.json["findings"]}
    assert parts == {"settings", "lanes", "kafka"}
    assert f"created {bridge.result_topic}-new" in finished.out


async def test_a_schema_that_is_missing_is_told_with_its_mend(bridge: Bridge, database: str) -> None:
    finished = await penstock(bridge.environment(postgres_dsn=database), "check")
    assert finished.code == 1
    assert "penstock migrate" in finished.out
    assert database not in finished.out
