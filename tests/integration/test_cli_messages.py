"""`penstock send` and `penstock tail` with a real Kafka and the service between them."""

import json
import re
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.support.bridge import Bridge
from tests.support.command import penstock
from tests.support.request import chat

Message = tuple[bytes | None, bytes | None, dict[str, bytes]]


async def records(bridge: Bridge, topic: str, count: int) -> list[Message]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bridge.kafka.bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, partition) for partition in range(3)])
    await consumer.start()
    try:
        found: list[Message] = []
        while len(found) < count:
            for polled in (await consumer.getmany(timeout_ms=500)).values():
                found += [(each.key, each.value, dict(each.headers)) for each in polled]
    finally:
        await consumer.stop()
    return found


async def test_lines_arrive_unchanged_with_key_and_headers(bridge: Bridge, tmp_path: Path) -> None:
    odd = [b'  {"custom_id" :"\xc3\xbc", "x": 1.50}  ', b"not json", b"\xff\xfe"]
    lines = [*odd, *(json.dumps(chat(f"request-{n}", words=n % 50)).encode() for n in range(2000))]
    file = tmp_path / "requests.jsonl"
    file.write_bytes(b"\n\r\n".join(lines))
    finished = await penstock(bridge.environment(), "send", file, "--header", "x-from=test=1", "--output", "json")
    assert finished.code == 0, finished
    assert (finished.json["sent"], finished.json["blank"]) == (2003, 2002)
    arrived = await records(bridge, bridge.requests, 2003)
    assert sorted(value or b"" for _, value, _ in arrived) == sorted(lines)
    keys = {value: key for key, value, _ in arrived}
    assert keys[odd[0]] == "ü".encode()
    assert keys[odd[1]] is keys[odd[2]] is None
    assert {tuple(headers.items()) for _, _, headers in arrived} == {(("x-from", b"test=1"),)}


async def test_standard_input_is_sent_without_keys_on_request(bridge: Bridge) -> None:
    given = b"\n".join(json.dumps(chat(f"{n}")).encode() for n in range(1000))
    finished = await penstock(bridge.environment(), "send", "-", "--key-from", "none", given=given)
    assert finished.code == 0, finished
    assert finished.out.startswith("sent 1,000 messages")
    assert {key for key, _, _ in await records(bridge, bridge.requests, 1000)} == {None}


async def test_a_topic_that_is_not_there_and_a_message_too_large_are_told(bridge: Bridge) -> None:
    finished = await penstock(bridge.environment(), "send", "-", "--topic", "nowhere", given=b"{}")
    assert (finished.code, finished.err) == (2, "penstock: there is no topic nowhere\n")
    large = json.dumps({"custom_id": "a", "noise": [hash(str(n)) for n in range(1_000_000)]}).encode()
    finished = await penstock(bridge.environment(), "send", "-", given=large)
    assert finished.code == 2
    assert "larger than" in finished.err


async def test_results_and_dead_letters_are_told(bridge: Bridge) -> None:
    async with bridge.service():
        await bridge.produce([chat("one"), chat("two"), b"no json"], partition=0)
        await bridge.results(2)
        await bridge.dead_letters(1)
    everything = ("tail", "--from-beginning", "--no-follow")
    text = await penstock(bridge.environment(), *everything)
    assert [line.split()[2:4] for line in text.out.splitlines()] == [["one", "200"], ["two", "200"]]
    [told] = [
        json.loads(line)
        for line in (
            await penstock(bridge.environment(), *everything, "--custom-id", "two", "--output", "json")
        ).out.splitlines()
    ]
    assert told["value"]["custom_id"] == "two"
    assert told["headers"]["penstock-attempt"] == "1"
    one = await penstock(bridge.environment(), "tail", "--from-beginning", "--limit", 1)
    assert len(one.out.splitlines()) == 1
    dead = await penstock(bridge.environment(), *everything, "--dead-letters")
    assert (
        "invalid_json: The value is not valid JSON; send one object and nothing before or after it. (from 0@2)"
        in dead.out
    )


async def test_one_request_is_asked_and_its_answer_shown(bridge: Bridge) -> None:
    async with bridge.service():
        asked = await penstock(bridge.environment(), "ask", "A word?", "--output", "json")
        refused = await penstock(bridge.environment(), "ask", "--model", "")
    assert asked.code == 0, asked
    assert asked.json["value"]["custom_id"] in asked.err
    assert asked.json["value"]["response"]["status_code"] == 200
    assert refused.code == 1
    assert "missing_model" in refused.out


async def test_who_asks_in_vain_is_told_how_to_find_the_request(bridge: Bridge) -> None:
    asked = await penstock(bridge.environment(), "ask", "--timeout-seconds", 2)
    assert asked.code == 2
    assert re.fullmatch(r"sent (ask-\w+) to .*\npenstock: no result in 2 s; where it is: penstock find \1\n", asked.err)
