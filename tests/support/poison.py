"""A record that aiokafka cannot decode."""

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests.support.bridge import Bridge


class NotText(str):
    """A header's name whose bytes are no UTF-8, as clients in other languages can send it."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


async def poison(bridge: Bridge, partition: int) -> None:
    """Produce a record that aiokafka cannot decode."""
    async with AIOKafkaProducer(bootstrap_servers=bridge.kafka.bootstrap_servers) as producer:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(  # noqa: SLF001 - the compiled one encodes by itself
            2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=16384
        )
        batch.append(key=None, value=b"{}", timestamp=None, headers=[(NotText("x"), b"")])
        await (await producer.send_batch(batch, bridge.requests, partition=partition))
