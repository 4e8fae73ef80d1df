"""The transactional producer of a slot. It commits only what every send has acknowledged (P3)."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from murmurhash2 import murmurhash2

from penstock.kafka.closing import stop_within
from penstock.kafka.connection import client_options, read_password_anew
from penstock.kafka.reach import start_client
from penstock.kafka.topics import Topic, describe_topics
from penstock.settings import KafkaSettings
from penstock.telemetry.failpoint import failpoint

BATCH_BYTES = 128 * 1024
LINGER_MS = 5
TOPIC_SECONDS = 5.0
"""A topic that the brokers do not know by then holds up its slot no longer."""
KEY_SEED = 0x9747B28C
"""Of the hash by which Kafka's own clients choose a key's partition."""

Headers = Sequence[tuple[str, bytes | None]]
Outgoing = tuple[str, bytes | None, bytes | None, Headers, str | None]
"""Topic, key, value, headers, and what the client does not read."""
Full = tuple[str, int, Any]
"""Topic, partition, builder."""


class RecordTooLarge(KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """The broker refused a record for its size."""


class ResultProducer:
    """One producer, for one start; any failure means: drop it, start another (P1).

    Args:
        settings: brokers.
        transactional_id: of the slot; a new producer with the same id fences the old one.
        timeout_seconds: the broker aborts a transaction that is open longer.
        bytes_max: what every topic takes; records are sent together up to this, if it is less than usual.
    """

    def __init__(
        self, settings: KafkaSettings, transactional_id: str, timeout_seconds: float, bytes_max: int = BATCH_BYTES
    ) -> None:
        self.settings = settings
        self.timeout_seconds = timeout_seconds
        self.producer = AIOKafkaProducer(
            **client_options(settings, transactional_id),
            transactional_id=transactional_id,
            transaction_timeout_ms=int(timeout_seconds * 1000),
            compression_type=None if settings.result_compression == "none" else settings.result_compression,
            max_batch_size=min(BATCH_BYTES, bytes_max),
            linger_ms=LINGER_MS,
        )
        read_password_anew(self.producer.client, settings)
        self.builders: dict[tuple[str, int], Any] = {}
        self.sends: list[asyncio.Future[Any]] = []
        self.partitions: dict[str, tuple[int, ...]] = {}

    @failpoint("publisher.start")
    async def start(self) -> None:
        """Fence every older producer of the slot."""
        async with asyncio.timeout(self.timeout_seconds):
            await start_client(self.producer, self.settings)

    @failpoint("publisher.stop")
    async def stop(self) -> None:
        """Give up; an open transaction is left to the fence or to its time-out. Never waits long."""
        self.builders.clear()
        for each in self.sends:
            each.cancel()
        self.sends.clear()
        await stop_within(self.producer)

    @failpoint("publisher.describe")
    async def describe(self, topic: str) -> Topic | None:
        """A topic as the brokers know it; None when there is none of this name."""
        return (await describe_topics(self.producer.client, [topic])).topics.get(topic)

    @failpoint("publisher.begin")
    async def begin(self) -> None:
        """Open a transaction."""
        await self.producer.begin_transaction()

    @failpoint("publisher.partitions")
    async def partitions_of(self, topic: str) -> tuple[int, ...]:
        """The partitions of a topic, in order.

        Raises:
            UnknownTopicOrPartitionError: the brokers do not tell them; the client alone would go on asking for long.
        """
        if topic not in self.partitions:
            try:
                async with asyncio.timeout(TOPIC_SECONDS):
                    self.partitions[topic] = tuple(sorted(await self.producer.partitions_for(topic)))
            except TimeoutError as error:
                raise UnknownTopicOrPartitionError(topic) from error
        return self.partitions[topic]

    def append_all(self, records: Iterable[Outgoing], fallback: int, timestamp_ms: int) -> list[Full]:
        """Add records to the builders of their partitions, by key; CPU work: call it off the loop.

        Args:
            records: in the order in which each partition shall have them; `partitions_of` knows their topics.
            fallback: chooses the partition of records without a key.
            timestamp_ms: of all of them, Unix milliseconds.

        Returns:
            Full builders, which must be sent in this order.

        Raises:
            UnknownTopicOrPartitionError: a topic is not there.
        """
        full = []
        for topic, key, value, headers, _ in records:
            if topic not in self.partitions:
                raise UnknownTopicOrPartitionError(topic)
            partition = partition_of(key, self.partitions[topic], fallback)
            builder = self.append(topic, partition, key, value, headers, timestamp_ms)
            if builder is not None:
                full.append((topic, partition, builder))
        return full

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers, timestamp_ms: int
    ) -> Any | None:
        """Add a record to the partition's builder; returns a full builder that must be sent first, else None."""
        builder = self.builders.get((topic, partition))
        if builder is None:
            builder = self.builders[topic, partition] = self.producer.create_batch()
        if builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is not None:
            return None
        self.builders[topic, partition] = fresh = self.producer.create_batch()
        fresh.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
        return builder

    @failpoint("publisher.send")
    async def send(self, topic: str, partition: int, builder: Any) -> None:
        """Hand a full builder to the producer."""
        self.sends.append(await self.producer.send_batch(builder, topic, partition=partition))

    @failpoint("publisher.flush")
    async def flush(self) -> None:
        """Send what is left, and await every send's own answer.

        Raises:
            RecordTooLarge: the broker refused a record for its size.
            KafkaError: a send failed; nothing of this transaction may be committed.
        """
        left, self.builders = self.builders, {}
        for (topic, partition), builder in left.items():
            await self.send(topic, partition, builder)
        sends, self.sends = self.sends, []
        async with asyncio.timeout(self.timeout_seconds):
            answers = await asyncio.gather(*sends, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, MessageSizeTooLargeError):
                raise RecordTooLarge
            if isinstance(answer, BaseException):
                raise answer

    @failpoint("publisher.commit")
    async def commit(self) -> None:
        """Commit the transaction; call it only after `flush`.

        Raises:
            KafkaError, TimeoutError: the outcome is not known: only the ledger tells.
        """
        async with asyncio.timeout(self.timeout_seconds):
            await self.producer.commit_transaction()


def partition_of(key: bytes | None, partitions: Sequence[int], fallback: int) -> int:
    """The partition of a key, as Kafka's own clients choose it; a record without a key goes to the fallback."""
    if key is None:
        return partitions[fallback % len(partitions)]
    return partitions[(murmurhash2(key, KEY_SEED) & 0x7FFFFFFF) % len(partitions)]
