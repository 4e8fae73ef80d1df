import uuid
from dataclasses import replace

import pytest

from penstock.core.lanes_file import parse_lanes
from penstock.kafka.layout import Role, Wanted, misfits, wanted_topics, weak_replication
from penstock.kafka.topics import Topic
from penstock.settings import KafkaSettings


def topic(partitions: int = 8) -> Topic:
    return Topic("t", uuid.UUID(int=1), partitions, 1)


def texts(role: Role, configs: dict[str, str], *, partitions: int = 8, request_bytes: int = 1000) -> list[str]:
    return [each.text for each in misfits(Wanted("t", role, 8), topic(partitions), configs, request_bytes, brokers=1)]


def test_every_topic_that_a_result_may_go_to_is_wanted() -> None:
    lanes = parse_lanes({"lane": [{"model": "m", "result_topic": "elsewhere"}], "result_topics": ["by-header"]})
    wanted = wanted_topics(KafkaSettings(), lanes, 4)
    assert {each.name for each in wanted if each.role is Role.RESULTS} == {"penstock.results", "elsewhere", "by-header"}
    assert wanted[0].role is Role.REQUESTS
    assert wanted[-1] == Wanted("penstock.ledger", Role.LEDGER, 4)


def test_a_missing_topic_is_told_with_the_command_that_makes_it() -> None:
    [misfit] = misfits(Wanted("t", Role.RESULTS, 1), None, {}, 0, brokers=1)
    assert misfit.mend == "penstock check --create-topics"


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_the_ledger_must_be_compacted_and_nothing_else(policy: str) -> None:
    assert texts(Role.LEDGER, {"cleanup.policy": policy}) == [f"cleanup.policy is {policy}, must be compact alone"]
    assert texts(Role.LEDGER, {"cleanup.policy": "compact"}) == []


def test_the_ledger_has_a_partition_for_each_slot() -> None:
    [text] = texts(Role.LEDGER, {"cleanup.policy": "compact"}, partitions=7)
    assert text == "7 partitions, PENSTOCK_PUBLISHER_SLOTS needs 8"


@pytest.mark.parametrize("role", [Role.RESULTS, Role.DEAD_LETTERS])
def test_what_goes_out_must_not_be_smaller_than_what_comes_in(role: Role) -> None:
    assert texts(role, {"max.message.bytes": "999"}) == ["max.message.bytes is 999, request topics take 1000"]
    assert texts(role, {"max.message.bytes": "1000"}) == []


@pytest.mark.parametrize(("role", "fatal"), [(Role.REQUESTS, True), (Role.RESULTS, False)])
def test_compaction_would_lose_requests_and_results(role: Role, *, fatal: bool) -> None:
    [misfit] = misfits(Wanted("t", role, 1), topic(), {"cleanup.policy": "compact"}, 0, brokers=1)
    assert misfit.fatal is fatal


@pytest.mark.parametrize(
    ("replicas", "in_sync", "brokers", "text", "fatal"),
    [
        (1, 1, 1, None, False),
        (1, 1, 3, "it has 1 replica", True),
        (2, 1, 3, None, False),
        (3, 1, 3, "min.insync.replicas is 1", True),
        (3, 2, 3, None, False),
        (3, 3, 3, "one broker away stops the writing", False),
        (1, 2, 1, "nothing can be written", True),
    ],
)
def test_a_broker_that_is_lost_takes_nothing_acknowledged_with_it(
    replicas: int, in_sync: int, brokers: int, text: str | None, *, fatal: bool
) -> None:
    found = list(weak_replication(replace(topic(), replicas=replicas), in_sync, brokers))
    assert [each.fatal for each in found] == ([] if text is None else [fatal])
    assert all(str(text) in each.text and each.mend for each in found)
