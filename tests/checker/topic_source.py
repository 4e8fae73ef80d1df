"""Topics as the broker describes them.

Topic ids came with version 10 of the Metadata request, which aiokafka does not speak; here it is spoken on a plain
connection, by none of the service's code.
"""

import asyncio
import struct
from collections.abc import Sequence
from typing import NamedTuple

METADATA = 3
VERSION = 10
NO_TAGS = b"\0"


class Topic(NamedTuple):
    """A topic; its source is `{cluster id}/{topic id in hexadecimal}`."""

    source: str
    partitions: int


class TopicMissing(LookupError):
    """A topic is not there."""


class Cursor:
    """Reads the flexible wire format from left to right."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, count: int) -> bytes:
        """So many bytes."""
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, code: str) -> int:
        """A number of a fixed width."""
        value: int = struct.unpack(code, self.take(struct.calcsize(code)))[0]
        return value

    def varint(self) -> int:
        """A number of up to 35 bits."""
        value = shift = 0
        while True:
            byte = self.number("B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def text(self) -> str:
        """A text; "" for none."""
        return self.take(max(0, self.varint() - 1)).decode()

    def count(self) -> int:
        """The length of an array."""
        return max(0, self.varint() - 1)

    def skip_tags(self) -> None:
        """Tagged fields."""
        for _ in range(self.varint()):
            self.varint()
            self.take(self.varint())


async def describe_topics(bootstrap: str, names: Sequence[str]) -> dict[str, Topic]:
    """What each topic is.

    Raises:
        TopicMissing: one does not exist.
        OSError, TimeoutError: the broker does not answer.
    """
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            request = encode_request(names)
            writer.write(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            topics = read_response(Cursor(await reader.readexactly(size)))
        finally:
            writer.close()
    if missing := sorted(set(names) - topics.keys()):
        raise TopicMissing(", ".join(missing))
    return topics


def encode_request(topics: Sequence[str]) -> bytes:
    """A Metadata request for these topics, which creates nothing."""
    header = struct.pack(">hhih", METADATA, VERSION, 0, -1) + NO_TAGS
    named = b"".join(bytes(16) + varint(len(each.encode()) + 1) + each.encode() + NO_TAGS for each in topics)
    return header + varint(len(topics) + 1) + named + bytes(3) + NO_TAGS


def varint(number: int) -> bytes:
    """A number as the flexible format has it."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def read_response(cursor: Cursor) -> dict[str, Topic]:
    """The topics that exist."""
    cursor.number(">i")  # correlation id
    cursor.skip_tags()
    cursor.number(">i")  # throttle time
    for _ in range(cursor.count()):
        cursor.number(">i")  # node
        cursor.text()  # host
        cursor.number(">i")  # port
        cursor.text()  # rack
        cursor.skip_tags()
    cluster_id = cursor.text()
    cursor.number(">i")  # controller
    topics = {}
    for _ in range(cursor.count()):
        error, name, topic_id = cursor.number(">h"), cursor.text(), cursor.take(16)
        topic = Topic(f"{cluster_id}/{topic_id.hex()}", count_partitions(cursor))
        if not error:
            topics[name] = topic
    return topics


def count_partitions(cursor: Cursor) -> int:
    """Read what follows a topic's id; returns the number of its partitions."""
    cursor.number("B")  # internal
    partitions = cursor.count()
    for _ in range(partitions):
        cursor.take(2 + 4 + 4 + 4)  # error, partition, leader, leader's epoch
        for _ in range(3):  # replicas, those in sync, those offline
            cursor.take(4 * cursor.count())
        cursor.skip_tags()
    cursor.number(">i")  # authorized operations
    cursor.skip_tags()
    return partitions
