"""The checker on real topics, with results forged by hand."""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from batchsim.answer import answer, request_digest, request_id
from penstock.embedded.kafka import EmbeddedKafka
from tests.checker.__main__ import arguments, check
from tests.checker.report import Kind
from tests.checker.topic_source import TopicMissing, describe_topics
from tests.support.request import chat
from tests.support.stack import TopicFactory


@dataclass
class Forgery:
    """Topics whose results are written by a transactional producer of the test's own."""

    source: str
    results: str
    producer: AIOKafkaProducer
    options: argparse.Namespace

    async def answer(self, offset: int, *, of: int | None = None) -> None:
        """Write the result of one request, with the answer to another if so wanted."""
        line = chat(f"request-{offset if of is None else of}")
        body = json.dumps(line["body"]).encode()
        status_code, answered = answer(line["url"], body)
        digest = request_digest(line["url"], body)
        response = {"status_code": status_code, "request_id": request_id(digest), "body": answered}
        value = {"id": "any", "custom_id": f"request-{offset}", "response": response, "error": None}
        headers = [("penstock-result-id", f"{self.source}/0/{offset}".encode())]
        await self.producer.send_and_wait(self.results, json.dumps(value).encode(), headers=headers)


@pytest.fixture
async def forgery(kafka: EmbeddedKafka, topic: TopicFactory, tmp_path: Path) -> Callable[[int], Awaitable[Forgery]]:
    """Makes topics with so many requests in them."""

    async def make(requests: int) -> Forgery:
        names = [await topic(prefix) for prefix in ("requests", "results", "dead-letters")]
        journal = tmp_path / "journal.jsonl"
        journal.touch()
        given = {
            "--bootstrap": kafka.bootstrap_servers,
            "--requests": names[0],
            "--results": names[1],
            "--dead-letters": names[2],
            "--journal": str(journal),
            "--patience-seconds": "30",
        }
        options = arguments([text for pair in given.items() for text in pair])
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as plain:
            for number in range(requests):
                await plain.send_and_wait(names[0], json.dumps(chat(f"request-{number}")).encode())
        source = (await describe_topics(kafka.bootstrap_servers, names))[names[0]].source
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=names[1])
        return Forgery(source, names[1], producer, options)

    return make


MakeForgery = Callable[[int], Awaitable[Forgery]]


async def test_aborted_results_are_told_from_committed_ones(forgery: MakeForgery) -> None:
    forged = await forgery(3)
    async with forged.producer as producer:
        async with producer.transaction():
            for offset in range(3):
                await forged.answer(offset)
        await producer.begin_transaction()
        await forged.answer(1)
        await producer.abort_transaction()
    report = await check(forged.options)
    assert report.clean, report.as_text()
    assert (report.messages, report.results, report.aborted) == (3, 3, 1)


async def test_a_run_with_every_fault_is_found_out(forgery: MakeForgery) -> None:
    forged = await forgery(4)
    async with forged.producer as producer:
        async with producer.transaction():
            await forged.answer(0)
            await forged.answer(0)
            await forged.answer(1, of=2)
            await forged.answer(9)
        await producer.begin_transaction()
        await forged.answer(3)
        await producer.abort_transaction()
    report = await check(forged.options)
    found = {kind: [each.split()[0] for each in violation.first] for kind, violation in report.violations.items()}
    assert found == {
        Kind.DOUBLED: [f"{forged.source}/0/0"],
        Kind.CROSSED: [f"{forged.source}/0/1"],
        Kind.LOST: [f"{forged.source}/0/{offset}" for offset in (2, 3)],
        Kind.ORPHANED: [f"{forged.results}/0/3"],
    }


async def test_a_transaction_that_hangs_is_told(forgery: MakeForgery) -> None:
    forged = await forgery(1)
    async with forged.producer as producer:
        await producer.begin_transaction()
        await forged.answer(0)
        forged.options.patience_seconds = 1.0
        report = await asyncio.wait_for(check(forged.options), 30)
        await producer.abort_transaction()
    assert set(report.violations) == {Kind.LOST, Kind.TRANSACTION_OPEN}
    assert report.violations[Kind.TRANSACTION_OPEN].first == [f"{forged.results}/0"]


async def test_a_topic_that_is_not_there_is_named(kafka: EmbeddedKafka) -> None:
    with pytest.raises(TopicMissing, match="nowhere"):
        await describe_topics(kafka.bootstrap_servers, ["nowhere"])
