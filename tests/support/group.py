"""The consumer group's generation, by the broker's own records of it."""

import struct

from aiokafka import AIOKafkaConsumer, TopicPartition

METADATA_KEY = 2
"""Version of the keys in `__consumer_offsets` that stand before a group's metadata; lower ones stand before offsets."""


async def generation(bootstrap_servers: str, group: str) -> int:
    """The group's generation, which every rebalance raises.

    Raises:
        LookupError: the broker has no record of the group.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    place = TopicPartition("__consumer_offsets", 0)
    consumer.assign([place])
    await consumer.start()
    found = None
    try:
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for record in (await consumer.getmany(place, timeout_ms=500)).get(place, ()):
                found = read_generation(record.key, record.value, group) or found
    finally:
        await consumer.stop()
    if found is None:
        raise LookupError(group)
    return found


def read_generation(key: bytes, value: bytes | None, group: str) -> int | None:
    """The generation that a record tells of the group; None when it tells something else."""
    version, length = struct.unpack_from(">hh", key)
    if version != METADATA_KEY or key[4 : 4 + length].decode() != group or value is None:
        return None
    _, protocol_length = struct.unpack_from(">hh", value)  # version, and the protocol's type
    number: int = struct.unpack_from(">i", value, 4 + protocol_length)[0]
    return number
