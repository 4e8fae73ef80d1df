"""Topics and their ids. aiokafka speaks Metadata up to version 5; topic ids need version 10, which is spoken here."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from types import TracebackType
from typing import Any, ClassVar, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NodeNotReadyError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from penstock.core.errors import ConfigurationError
from penstock.kafka.connection import client_options
from penstock.kafka.reach import broker_away, start_client
from penstock.kafka.right import Operation, Resource, Right, RightsMissing
from penstock.settings import KafkaSettings
from penstock.telemetry.failpoint import failpoint

UNKNOWN_TOPIC = 3
TOPIC_AUTHORIZATION_FAILED = 29
NO_OPERATIONS = -(2**31)
"""What a broker gives instead of our rights when it does not tell them."""


class NoTopicIds(ConfigurationError):
    """The brokers give no topic ids."""


class Uuid(AbstractType):  # type: ignore[misc]  # aiokafka is untyped
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        """To the wire."""
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        """From the wire."""
        return uuid.UUID(bytes=data.read(16))


class MetadataResponseV10(Response):  # type: ignore[misc]  # aiokafka is untyped
    """Metadata with topic ids."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequestV10(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    """Ask by name, without creating anything."""

    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = MetadataResponseV10
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[MetadataRequestV10]):  # type: ignore[misc]  # aiokafka is untyped
    """The ids of topics."""

    API_KEY: ClassVar[int] = 3

    def __init__(self, topics: Iterable[str], *, operations: bool = False) -> None:
        self.topics = list(topics)
        self.operations = operations

    def build(self, request_struct_class: type[MetadataRequestV10]) -> MetadataRequestV10:
        """The struct for the one version that is spoken."""
        named: list[tuple[uuid.UUID, str, dict[int, bytes]]] = [(uuid.UUID(int=0), name, {}) for name in self.topics]
        return request_struct_class(named, False, False, self.operations, {})


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a partition: its node (-1: nobody now) and its epoch (-1: the broker tells none)."""

    node: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic is.

    Args:
        name: of the topic.
        id: of the topic; another one once it was deleted and made again.
        partitions: how many.
        replicas: of each partition.
        leaders: by partition.
        operations: what we may do with it, a bit for each of Kafka's operations; None when it was not asked or told.
    """

    name: str
    id: uuid.UUID
    partitions: int
    replicas: int
    leaders: Mapping[int, Leader] = field(default_factory=dict)
    operations: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster's id and the topics that were asked for and exist; ``denied`` are those that we may not describe."""

    id: str
    topics: Mapping[str, Topic]
    denied: frozenset[str] = frozenset()

    def leader(self, topic: str, partition: int) -> Leader | None:
        """Who leads a partition; None when it or its topic does not exist."""
        found = self.topics.get(topic)
        return found.leaders.get(partition) if found else None


class TopicClient:
    """Reads and creates topics; an async context manager.

    Raises:
        KafkaError, OSError: the brokers cannot be reached.
    """

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self.settings = settings
        self.admin = AIOKafkaAdminClient(**client_options(settings, client_id))

    @failpoint("start.brokers")
    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            await start_client(self.admin, self.settings)
        except BaseException:
            await self.admin.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self.admin.close()

    @failpoint("start.topics")
    async def describe(self, names: Iterable[str], *, operations: bool = False) -> Cluster:
        """The cluster's id and those of the topics that exist; with what we may do with them, when that is asked."""
        client = self.admin._client  # noqa: SLF001 - aiokafka offers no other way to the protocol
        try:
            return await describe_topics(client, names, operations=operations)
        except NodeNotReadyError as error:
            broker = next(iter(client.cluster.brokers()), None)
            if broker is None:
                raise
            raise await broker_away(self.settings, broker.host, broker.port) from error

    async def create_topic(self, topic: str, partitions: int, replicas: int, configs: Mapping[str, str]) -> None:
        """Create a topic.

        Raises:
            KafkaError: the broker refuses.
        """
        answer = await self.admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=dict(configs))])
        for _, code, *message in answer.topic_errors:
            if code:
                raise for_code(code)(message[0] if message else topic)

    async def brokers(self) -> list[int]:
        """The ids of the brokers that are there."""
        return [each["node_id"] for each in (await self.admin.describe_cluster())["brokers"]]

    async def broker_configs(self, broker: int) -> dict[str, str]:
        """A broker's settings in force; empty when we may not read them."""
        answers = await self.admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, str(broker))])
        return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}

    @failpoint("start.configs")
    async def configs(self, topic: str) -> dict[str, str]:
        """A topic's settings in force.

        Raises:
            RightsMissing: we may not read them.
            KafkaError: the broker does not tell them for another reason.
        """
        answers = await self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        for code, message, *_ in (resource for answer in answers for resource in answer.resources):
            if code == TOPIC_AUTHORIZATION_FAILED:
                raise RightsMissing([Right(Operation.DESCRIBE_CONFIGS, Resource.TOPIC, topic)])
            if code:
                raise for_code(code)(message or topic)
        return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}


async def describe_topics(client: Any, names: Iterable[str], *, operations: bool = False) -> Cluster:
    """Ask a running aiokafka client's brokers for topic ids (I5).

    Raises:
        KafkaError: no broker answers.
        NoTopicIds: the brokers give none: a topic that is made anew could not be told from the old one, and all topics
            would share their positions.
    """
    node = client.get_random_node()
    if node is None:
        raise KafkaError("no broker is known")
    answer = await client.send(node, TopicIdsRequest(names, operations=operations))
    topics = {
        name: Topic(
            name,
            topic_id,
            len(partitions),
            len(partitions[0][4]) if partitions else 0,
            {number: Leader(leader, epoch) for _, number, leader, epoch, *_ in partitions},
            None if allowed == NO_OPERATIONS else allowed,
        )
        for code, name, topic_id, _, partitions, allowed, *_ in answer.topics
        if not code
    }
    if without := sorted(name for name, topic in topics.items() if not topic.id.int):
        raise NoTopicIds(
            f"the brokers give no topic id for {', '.join(without)}: positions of several topics would be one. Penstock"
            " needs Kafka 2.8 or later with inter.broker.protocol.version 2.8 or later"
        )
    denied = frozenset(each[1] for each in answer.topics if each[0] == TOPIC_AUTHORIZATION_FAILED)
    return Cluster(answer.cluster_id, topics, denied)
