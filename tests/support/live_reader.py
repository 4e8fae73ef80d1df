"""A consumer like those of the real world: read_committed, there from the start, surviving what happens to brokers."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.support.waiting import NeverCame

RECONNECT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Received:
    """A record that was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes | None]

    @property
    def json(self) -> Any:
        """The value, read as JSON."""
        return json.loads(self.value or b"null")

    @property
    def custom_id(self) -> str:
        """Of a result."""
        custom_id: str = self.json["custom_id"]
        return custom_id

    def header(self, name: str) -> str:
        """A header, as a text.

        Raises:
            KeyError: it has none of this name.
        """
        return (self.headers[name] or b"").decode()


class LiveReader:
    """Reads topics from their beginning on, while it is entered, and notes each result id in a file.

    Args:
        bootstrap: the broker.
        topics: partitions by topic.
        seen: the file, a JSON text a line, as the checker takes it.
    """

    def __init__(self, bootstrap: str, topics: Mapping[str, int], seen: Path) -> None:
        self.bootstrap = bootstrap
        self.positions = {TopicPartition(topic, each): 0 for topic, count in topics.items() for each in range(count)}
        self.received: dict[str, list[Received]] = {topic: [] for topic in topics}
        self.seen = seen
        self.arrived = asyncio.Condition()
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.seen.touch()
        self.task = asyncio.create_task(self.read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None, "it was entered"
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def read(self) -> None:
        """Read for ever; after an error, go on with another consumer from the same place."""
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.bootstrap, isolation_level="read_committed", auto_offset_reset="none"
            )
            consumer.assign(list(self.positions))
            try:
                await consumer.start()
                for partition, position in self.positions.items():
                    consumer.seek(partition, position)
                while True:
                    for records in (await consumer.getmany(timeout_ms=1000)).values():
                        await self.take(records)
            except (KafkaError, OSError):
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                await consumer.stop()

    async def take(self, records: list[Any]) -> None:
        """Note what one partition brought."""
        with self.seen.open("a") as seen:
            for record in records:
                self.positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                self.keep(record)
                result_id = dict(record.headers).get("penstock-result-id") or b""
                seen.write(json.dumps(result_id.decode()) + "\n")
        async with self.arrived:
            self.arrived.notify_all()

    def keep(self, record: Any) -> None:
        """Remember a record."""
        self.received[record.topic].append(
            Received(record.topic, record.partition, record.offset, record.key, record.value, dict(record.headers))
        )

    async def wait(self, topic: str, count: int, timeout_seconds: float) -> list[Received]:
        """Everything read of a topic so far, once it is so many at least.

        Raises:
            NeverCame: they did not come; the message says how many did.
        """
        try:
            async with asyncio.timeout(timeout_seconds), self.arrived:
                await self.arrived.wait_for(lambda: len(self.received[topic]) >= count)
        except TimeoutError:
            raise NeverCame(f"{len(self.received[topic])} of {count} came to {topic.rpartition('-')[0]}") from None
        return list(self.received[topic])
