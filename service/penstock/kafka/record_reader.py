"""Reading topics from the outside, without a consumer group: what committed transactions made of them."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from penstock.core.errors import PenstockError
from penstock.kafka.closing import stop_within
from penstock.kafka.connection import client_options
from penstock.kafka.reach import start_client
from penstock.settings import KafkaSettings

FETCH_BYTES = 4 * 1024 * 1024


class RecordReader:
    """Reads every partition of some topics, read_committed; an async context manager.

    Args:
        settings: brokers.
        topics: what to read.
        from_beginning: from the first record; else only what comes from now on.
        client_id: as brokers log it.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Iterable[str],
        *,
        from_beginning: bool,
        client_id: str = "penstock-reader",
    ) -> None:
        self.consumer = AIOKafkaConsumer(
            **client_options(settings, client_id),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self.settings = settings
        self.topics = tuple(topics)
        self.from_beginning = from_beginning
        self.partitions: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        """Connect and find the place to begin at.

        Raises:
            PenstockError: there is no such topic.
            KafkaError, OSError: the brokers cannot be reached.
        """
        try:
            await start_client(self.consumer, self.settings)
            await self.begin()
        except BaseException:
            await stop_within(self.consumer)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await stop_within(self.consumer)

    async def begin(self) -> None:
        """Take every partition, and seek."""
        if missing := sorted(set(self.topics) - await self.consumer.topics()):
            raise PenstockError(f"there is no topic {missing[0]}")
        for topic in self.topics:
            await self.consumer._client._wait_on_metadata(topic)  # noqa: SLF001 - the public way answers from a cache
            found = self.consumer.partitions_for_topic(topic) or ()
            self.partitions += [TopicPartition(topic, partition) for partition in sorted(found)]
        self.consumer.assign(self.partitions)
        if self.from_beginning:
            await self.consumer.seek_to_beginning()
        else:
            await self.consumer.seek_to_end()

    async def poll(self, seconds: float) -> list[Any]:
        """Some records, as soon as there are any; none when the time is over."""
        polled: Mapping[TopicPartition, list[Any]] = await self.consumer.getmany(timeout_ms=int(seconds * 1000))
        return [record for records in polled.values() for record in records]

    async def starts(self) -> dict[TopicPartition, int]:
        """The first offset that each partition still has."""
        found: dict[TopicPartition, int] = await self.consumer.beginning_offsets(self.partitions)
        return found

    async def ends(self) -> dict[TopicPartition, int]:
        """Where the partitions end now."""
        found: dict[TopicPartition, int] = await self.consumer.end_offsets(self.partitions)
        return found

    @staticmethod
    def place_of(record: Any) -> TopicPartition:
        """The partition that a record is of."""
        return TopicPartition(record.topic, record.partition)

    async def has_passed(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether every record before these ends was read."""
        for partition, end in ends.items():
            if await self.consumer.position(partition) < end:
                return False
        return True
