"""What surrounds a replica: the database that is away, the clock that is wrong."""

import time

from aiokafka import TopicPartition

from penstock.kafka.request_consumer import RequestConsumer
from penstock.stages.intake import Intake
from penstock.stages.slot import SlotSession
from tests.defences.switches.registry import Patch, defence


@defence("Outages")
def stay_in_group(patch: Patch) -> None:
    """While positions cannot be read, nobody polls."""

    async def pause(_: Intake, consumer: RequestConsumer, partitions: set[TopicPartition]) -> None:
        consumer.pause(partitions)

    patch.setattr(Intake, "stay_in_group", pause)


@defence("Clocks")
def database_clock(patch: Patch) -> None:
    """Results are stamped with the replica's own clock."""
    patch.setattr(SlotSession, "now", lambda _: time.time())
