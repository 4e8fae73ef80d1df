"""What producers may send: each odd body reaches the provider as it is, each bad message comes back as it was."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from penstock.core.jsonl import one_line
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bad_messages import BAD, BODY_BYTES_MAX, LANES, URL, says
from tests.support.bridge import ROOT, WAIT_SECONDS, Bridge, open_bridge
from tests.support.contracts import allowed, complaints, drawn, texts
from tests.support.conversation import Conversation
from tests.support.crash import until
from tests.support.live_reader import Received
from tests.support.odd_bodies import BODIES, LONG
from tests.support.request import line
from tests.support.stack import TopicFactory

PARTITIONS = 1000
PRETTY = b'{\r\n\t"model" : "m",\n  "input" : "a\\nb"\n}'
STRICT = ("half a surrogate pair", "a swapped surrogate pair", "a number beyond any float", LONG)
"""Bodies that the simulator refuses, as strict providers do."""
PLAIN = {"pretty": PRETTY, **{name: body for name, body in BODIES.items() if name not in STRICT}}
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SERVICE: dict[str, Any] = {
    "intake_body_bytes_max": BODY_BYTES_MAX,
    "kafka_result_compression": "gzip",
    "log_level": "debug",
}
THEIRS = [("private", b"\xfe\x00"), ("x-none", b"")]


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("messages")
    async with (
        open_bridge(kafka, postgres, folder, partitions=1, lanes=LANES) as bridge,
        bridge.service(**SERVICE) as service,
    ):
        yield Conversation(bridge, service)


def small(custom_id: str) -> dict[str, object]:
    """A request of the model that the lanes file allows."""
    return line(custom_id, URL, "m", input=custom_id)


def written(custom_id: str, body: bytes, url: str) -> bytes:
    """A request with exactly this body."""
    return b'{"custom_id":"%b","url":"%b","body":%b}' % (custom_id.encode(), url.encode(), body)


@pytest.mark.outcome("bad-value", "bad-members", "bad-body", "bad-size", "bad-headers")
async def test_every_bad_message_comes_back_once_as_it_was_with_its_code_and_the_mend(talk: Conversation) -> None:
    bridge, sent = talk.bridge, {}
    for name, bad in BAD.items():
        headers = [*bad.headers, *THEIRS]
        [(_, offset)] = await bridge.produce([bad.value], key=bad.key, headers=headers)
        sent[str(offset)] = name
    letters = await bridge.dead_letters(len(BAD))
    assert sorted(each.header("penstock.origin.offset") for each in letters) == sorted(sent)
    for letter in letters:
        name = sent[letter.header("penstock.origin.offset")]
        bad = BAD[name]
        assert (letter.key, letter.value) == (bad.key, bad.value)
        assert letter.headers.items() >= dict([*bad.headers, *THEIRS]).items()
        assert letter.header("penstock.error.code") == bad.code, name
        assert says(bad.code, letter.header("penstock.error.reason"))
    await talk.check()


@pytest.mark.outcome(
    "body-pretty", "body-escapes", "body-separators", "body-integers", "body-floats", "body-order", "body-deep"
)
async def test_every_odd_body_reaches_the_provider_byte_for_byte(talk: Conversation) -> None:
    await talk.bridge.produce([written(name, body, URL) for name, body in PLAIN.items()])
    await talk.answers(list(PLAIN))
    executed = {each["body_sha256"] for each in talk.bridge.simulator.journal() if each["event"] == "request.executed"}
    assert [name for name, body in PLAIN.items() if sha256(one_line(body)).hexdigest() not in executed] == []
    await talk.check()


async def test_requests_made_from_the_contract_are_answered_as_it_says(talk: Conversation) -> None:
    bridge = talk.bridge
    bodies = [{**each, "body": {**each["body"], "model": "m"}} for each in drawn(allowed(), 60)]
    made = [each for each in bodies if len(json.dumps(each["body"])) < BODY_BYTES_MAX]
    assert len(made) > 40
    places = await bridge.produce(made, headers=[("traceparent", TRACE)])
    answers: dict[str, Received] = {}
    async with asyncio.timeout(WAIT_SECONDS):
        while not answers.keys() >= {str(offset) for _, offset in places}:
            await asyncio.sleep(0.05)
            answers = {offset_of(each): each for each in bridge.reader.received[bridge.result_topic]}
    for request, (_, offset) in zip(made, places, strict=True):
        answer = answers[str(offset)]
        assert (answer.custom_id, answer.header("traceparent")) == (request["custom_id"], TRACE.decode())
    linked = {each["batch"].replace("-", "") for each in talk.service.logs("batch.traces") if each["traces"]}
    assert linked == {answers[str(offset)].header("penstock-batch-id") for _, offset in places}
    for answer in answers.values():
        assert complaints("result", answer.json) + complaints("result-headers", texts(answer.headers)) == []
    for letter in bridge.reader.received[bridge.dead_letter_topic]:
        assert complaints("dead-letter-headers", texts(letter.headers)) == []
    await talk.check()


def offset_of(result: Received) -> str:
    """Where its request stood."""
    return result.header("penstock-result-id").rpartition("/")[2]


async def test_the_readmes_example_is_answered_with_the_plain_client(talk: Conversation, tmp_path: Path) -> None:
    bridge = talk.bridge
    (text,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    told = bridge.environment()  # as `penstock demo --keep` tells it
    told = {name: told[name] for name in sorted(set(re.findall(r"PENSTOCK_\w+", text)))}
    without_codecs = "import sys; sys.modules['cramjam'] = None"  # as `pip install aiokafka` leaves it
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", f"{without_codecs}\n{text}"),
        env={**os.environ, **told},
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            async for said in process.stdout:
                if said.startswith(b"b'customer-7'"):
                    assert b"question-1" in said
                    assert b"'status_code': 200" in said
                    break
            else:
                pytest.fail("it ended without an answer")
    finally:
        process.kill()
        await process.wait()
    await talk.check()


@pytest.mark.outcome("duplicate-custom-ids")
async def test_a_custom_id_that_two_producers_chose_has_two_answers(talk: Conversation) -> None:
    first, second = small("chosen twice"), {**small("chosen twice"), "body": {"model": "m", "input": "another"}}
    offsets = {str(offset) for _, offset in await talk.bridge.produce([first, second])}
    received = talk.bridge.reader.received[talk.bridge.result_topic]

    async def both_are_answered() -> bool:
        return sum(each.custom_id == "chosen twice" for each in received) >= len(offsets)

    await until(both_are_answered)
    await talk.ask([small("after them")])
    found = [each for each in received if each.custom_id == "chosen twice"]
    assert {offset_of(each) for each in found} == offsets
    assert len({each.json["response"]["request_id"] for each in found}) == len(found) == 2
    await talk.check()


@pytest.mark.outcome("codecs")
async def test_topics_may_be_compressed_with_any_of_kafkas_codecs(talk: Conversation) -> None:
    bridge, codecs = talk.bridge, ("zstd", "lz4", "snappy", "gzip")
    for codec in codecs:
        async with AIOKafkaProducer(
            bootstrap_servers=bridge.kafka.bootstrap_servers, compression_type=codec, linger_ms=50
        ) as producer:
            values = [written(f"{codec}-{n}", b'{"model":"m"}', URL) for n in (0, 1)]
            await asyncio.gather(*[await producer.send(bridge.requests, value) for value in values])
    await talk.answers([f"{codec}-{n}" for codec in codecs for n in (0, 1)])
    await talk.check()


@pytest.mark.outcome("aborted", "offset-gaps")
async def test_what_a_transactional_producer_aborted_is_never_read_and_its_gaps_are_passed_over(
    talk: Conversation,
) -> None:
    bridge = talk.bridge
    async with AIOKafkaProducer(
        bootstrap_servers=bridge.kafka.bootstrap_servers, transactional_id=f"theirs-{bridge.deployment}"
    ) as producer:
        for n in range(4):
            await producer.begin_transaction()
            await producer.send_and_wait(bridge.requests, written(f"in transaction {n}", b'{"model":"m"}', URL))
            await (producer.abort_transaction() if n % 2 else producer.commit_transaction())
    await talk.ask([small("after all transactions")])
    await talk.answers(["in transaction 0", "in transaction 2"])
    seen = {each.custom_id for each in bridge.reader.received[bridge.result_topic]}
    assert not seen & {"in transaction 1", "in transaction 3"}
    await talk.check()


@pytest.mark.outcome("wide-topic")
async def test_a_thousand_partitions_are_read_by_one_replica(bridge: Bridge, topic: TopicFactory) -> None:
    bridge.requests = await topic("wide", partitions=PARTITIONS)
    async with bridge.service() as service:
        await service.reached("penstock_partitions_assigned", PARTITIONS)
        for partition in range(0, PARTITIONS, 10):
            await bridge.produce([small(f"of-{partition}")], partition=partition)
        await bridge.results(PARTITIONS // 10)
        await bridge.check()


@pytest.mark.outcome("body-surrogates", "body-floats")
async def test_what_a_strict_provider_refuses_is_sent_byte_for_byte_all_the_same(talk: Conversation) -> None:
    """The last of the conversation: their lanes halt."""
    strict = {name: BODIES[name] for name in STRICT if name != LONG}
    await talk.bridge.produce([written(each, BODIES[each], "/v1/completions") for each in strict])
    async with asyncio.timeout(WAIT_SECONDS), talk.bridge.simulator.client() as client:
        sent = b""
        while not all(b'"body":' + body + b"}\n" in sent for body in strict.values()):
            await asyncio.sleep(0.1)
            files = [each.id async for each in client.files.list(purpose="batch")]
            sent = b"".join([await (await client.files.content(each)).aread() for each in files])
