import json
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.demo.tally import Tally
from penstock.kafka.topics import Cluster, Topic
from penstock.settings import KafkaSettings

TOPIC = uuid.UUID(int=5)
SETTINGS = KafkaSettings()


@pytest.fixture
def tally() -> Tally:
    requests = SETTINGS.request_topics[0]
    made = Tally(SETTINGS, Cluster("cluster", {requests: Topic(requests, TOPIC, 1, 1)}))
    made.take([request(0, "a"), request(1, "b"), request(2, None)])
    return made


def request(offset: int, custom_id: str | None) -> Any:
    value = json.dumps({"custom_id": custom_id}).encode() if custom_id else b"broken"
    return record(SETTINGS.request_topics[0], offset, value, 1000)


def record(topic: str, offset: int, value: bytes, timestamp: int, **headers: str) -> Any:
    pairs = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
    return SimpleNamespace(topic=topic, partition=0, offset=offset, value=value, timestamp=timestamp, headers=pairs)


def result(of: int, custom_id: str, *, status: int | str = 200, topic_id: uuid.UUID = TOPIC) -> Any:
    value = {"custom_id": custom_id, "response": {"status_code": status, "body": {"model": "m"}}, "error": None}
    place = f"cluster/{topic_id.hex}/0/{of}"
    return record(SETTINGS.result_topic, 0, json.dumps(value).encode(), 3500, penstock_result_id=place)


def dead_letter(of: int) -> Any:
    place = f"cluster/{TOPIC.hex}/0/{of}"
    return record(SETTINGS.dead_letter_topic, 0, b"broken", 2000, penstock_result_id=place)


GOOD = [result(0, "a"), result(1, "b"), dead_letter(2)]


def test_each_request_with_its_own_answer_is_right(tally: Tally) -> None:
    tally.take(GOOD)
    assert tally.faults(3, 1) == []
    assert tally.latencies_seconds() == [1.0, 2.5, 2.5]
    assert tally.samples == {"m": ("a", b'{"model": "m"}')}


@pytest.mark.parametrize("written", [{"response": {"status_code": "200"}}, {"response": "", "error": "text"}])
def test_an_answer_counts_in_whatever_types_the_provider_wrote_it(tally: Tally, written: dict[str, Any]) -> None:
    first = result(0, "a")
    first.value = json.dumps({"custom_id": "a", "error": None, **written}).encode()
    tally.take([first, *GOOD[1:]])
    assert tally.faults(3, 1) == []
    assert tally.errors == ("error" in written)


def test_errors_are_answers(tally: Tally) -> None:
    tally.take([result(0, "a", status=500), *GOOD[1:]])
    assert tally.faults(3, 1) == []
    assert tally.errors == 1


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (GOOD[1:], "1 requests have no answer: a at (0, 0)"),
        ([*GOOD, result(1, "b")], f"1 answers came again: cluster/{TOPIC.hex}/0/1"),
        ([*GOOD, result(9, "z")], "1 answers belong to no request: (0, 9)"),
        ([*GOOD, result(1, "b", topic_id=uuid.UUID(int=6))], "1 answers belong to no request: penstock.results-0@0"),
        ([result(0, "b"), *GOOD[1:]], "1 results carry another custom_id: a got the result of b"),
        ([*GOOD[:2], result(2, "")], "1 messages cannot be requests, 0 dead letters came"),
    ],
)
def test_whatever_is_not_exactly_once_is_told(tally: Tally, answers: list[Any], said: str) -> None:
    tally.take(answers)
    assert any(fault.startswith(said) for fault in tally.faults(3, 1)), tally.faults(3, 1)


def test_messages_that_did_not_arrive_are_told(tally: Tally) -> None:
    tally.take(GOOD)
    assert tally.faults(4, None) == ["4 messages were sent, the topic holds 3"]
