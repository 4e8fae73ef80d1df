"""A producer of request messages: JSON lines in, records out, their bytes unchanged."""

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from penstock.core.errors import PenstockError
from penstock.kafka.closing import stop_within
from penstock.kafka.connection import client_options
from penstock.kafka.reach import start_client
from penstock.kafka.result_producer import partition_of
from penstock.settings import KafkaSettings

BATCH_BYTES = 256 * 1024
LINGER_MS = 5
BATCHES_IN_FLIGHT = 64
SPREAD = 256
"""Messages without a key that go to one partition before the next has its turn."""


class CustomId(msgspec.Struct):
    """What is read of a line; the rest of it is skipped."""

    custom_id: str


CUSTOM_ID = msgspec.json.Decoder(CustomId)


def custom_id_of(line: bytes | None) -> str | None:
    """The `custom_id` of a JSON line; None when it has none that can be read."""
    try:
        return CUSTOM_ID.decode(line or b"").custom_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class RequestProducer:
    """Sends messages to one topic, in order within a partition; an async context manager.

    Args:
        settings: brokers.
        topic: where messages go.
        keyed: whether the `custom_id` becomes the key.
        headers: of every message.
    """

    def __init__(
        self, settings: KafkaSettings, topic: str, *, keyed: bool, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        self.producer = AIOKafkaProducer(
            **client_options(settings, "penstock-send"),
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            linger_ms=LINGER_MS,
        )
        self.settings = settings
        self.topic = topic
        self.keyed = keyed
        self.headers = list(headers)
        self.partitions: tuple[int, ...] = ()
        self.builders: dict[int, Any] = {}
        self.in_flight: set[asyncio.Future[Any]] = set()
        self.sent = 0

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            PenstockError: there is no such topic.
            KafkaError, OSError: the brokers cannot be reached.
        """
        try:
            await start_client(self.producer, self.settings)
            await self.find_topic()
        except BaseException:
            await stop_within(self.producer)
            raise
        return self

    async def find_topic(self) -> None:
        """Learn the topic's partitions.

        Raises:
            PenstockError: there is no such topic.
        """
        # To ask for the partitions of a topic that is not there waits for it as long as a request may take.
        if self.topic not in (await self.producer.client.fetch_all_metadata()).topics():
            raise PenstockError(f"there is no topic {self.topic}")
        self.partitions = tuple(sorted(await self.producer.partitions_for(self.topic)))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; what was not flushed is not sent."""
        for each in self.in_flight:
            each.cancel()
        await stop_within(self.producer)

    async def send(self, line: bytes) -> None:
        """Take one message; waits while too many are on their way.

        Raises:
            KafkaError: one of those before it was refused.
        """
        custom_id = custom_id_of(line) if self.keyed else None
        key = custom_id.encode() if custom_id is not None else None
        partition = partition_of(key, self.partitions, self.sent // SPREAD)
        now = int(time.time() * 1000)
        self.sent += 1
        builder = self.builders.get(partition)
        if builder is not None:
            if builder.append(timestamp=now, key=key, value=line, headers=self.headers) is not None:
                return
            await self.dispatch(partition, builder)
        builder = self.builders[partition] = self.producer.create_batch()
        builder.append(timestamp=now, key=key, value=line, headers=self.headers)

    async def dispatch(self, partition: int, builder: Any) -> None:
        """Hand a full batch over."""
        while len(self.in_flight) >= BATCHES_IN_FLIGHT:
            await self.settle(asyncio.FIRST_COMPLETED)
        self.in_flight.add(await self.producer.send_batch(builder, self.topic, partition=partition))

    async def flush(self) -> None:
        """Send what is left, and wait until the brokers have everything.

        Raises:
            PenstockError: a message is larger than the topic takes.
            KafkaError: a send failed.
        """
        builders, self.builders = self.builders, {}
        for partition, builder in builders.items():
            await self.dispatch(partition, builder)
        while self.in_flight:
            await self.settle(asyncio.ALL_COMPLETED)

    async def settle(self, until: str) -> None:
        """Wait for answers, and raise the first bad one."""
        done, self.in_flight = await asyncio.wait(self.in_flight, return_when=until)
        for each in done:
            try:
                each.result()
            except MessageSizeTooLargeError as error:
                text = f"a message is larger than {self.topic} takes: raise its max.message.bytes"
                raise PenstockError(text) from error
