"""Where a leader epoch ends in a partition's log (OffsetForLeaderEpoch, KIP-320). aiokafka does not speak it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Int64, Schema, String

NO_REPLICA = -1
"""What a consumer gives as its replica id."""


class LeaderEpochResponseV3(Response):  # type: ignore[misc]  # aiokafka is untyped
    """The end of an epoch, for each partition."""

    API_KEY = 23
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("error_code", Int16), ("partition", Int32), ("leader_epoch", Int32), ("end_offset", Int64)),
                ),
            ),
        ),
    )


class LeaderEpochRequestV3(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    """Ask a leader; it answers with an error when ``current_leader_epoch`` is not its own."""

    API_KEY = 23
    API_VERSION = 3
    RESPONSE_TYPE = LeaderEpochResponseV3
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                ("partitions", Array(("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32))),
            ),
        ),
    )


class LeaderEpochRequest(Request[LeaderEpochRequestV3]):  # type: ignore[misc]  # aiokafka is untyped
    """The ends of epochs of partitions that one broker leads."""

    API_KEY: ClassVar[int] = 23

    def __init__(self, topics: Sequence[tuple[str, Sequence[tuple[int, int, int]]]]) -> None:
        self.topics = topics

    def build(self, request_struct_class: type[LeaderEpochRequestV3]) -> LeaderEpochRequestV3:
        """The struct for the one version that is spoken."""
        return request_struct_class(NO_REPLICA, self.topics)


@dataclass(frozen=True, slots=True)
class EpochQuestion:
    """Where does an epoch of a partition end?

    Args:
        leader: the node that is asked.
        current: the leader epoch that we believe to be in force.
        epoch: the epoch whose end is wanted.
    """

    leader: int
    current: int
    epoch: int


class EpochEnd(NamedTuple):
    """A leader's answer: Kafka's error code, and the offset after the epoch's last record (-1: it knows none)."""

    error: int
    offset: int


UNTOLD = EpochEnd(0, 2**63 - 1)
"""Of a broker that keeps no epochs."""


async def read_epoch_ends(
    client: Any, questions: Iterable[tuple[TopicPartition, EpochQuestion]]
) -> dict[TopicPartition, EpochEnd]:
    """Ask each leader once for all its partitions.

    Args:
        client: a running aiokafka client.
        questions: by partition.

    A leader that does not answer is left out. One that does not know the request confirms everything: `penstock check`
    says so.
    """
    by_leader: dict[int, dict[str, list[tuple[int, int, int]]]] = {}
    for partition, each in questions:
        topics = by_leader.setdefault(each.leader, {})
        topics.setdefault(partition.topic, []).append((partition.partition, each.current, each.epoch))
    found: dict[TopicPartition, EpochEnd] = {}
    for leader, asked in by_leader.items():
        try:
            answer = await client.send(leader, LeaderEpochRequest(list(asked.items())))
        except (IncompatibleBrokerVersion, NotImplementedError):
            found |= {TopicPartition(topic, each[0]): UNTOLD for topic, wanted in asked.items() for each in wanted}
            continue
        except (KafkaError, OSError):
            continue
        for topic, partitions in answer.topics:
            for error, number, _, offset in partitions:
                found[TopicPartition(topic, number)] = EpochEnd(error, offset)
    return found
