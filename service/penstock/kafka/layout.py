"""The topics of a deployment: which there must be, what each must be like, and making those that are missing."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from penstock.core.lane import Lanes
from penstock.kafka.topics import Topic, TopicClient
from penstock.settings import KafkaSettings

PARTITIONS = 6
REPLICAS_MAX = 3
VISIBLE_SECONDS = 0.02
COMPACT = "cleanup.policy=compact"
RECORD_BYTES = 1024 * 1024
"""About Kafka's default `max.message.bytes`, where a topic's own cannot be read."""


class Role(StrEnum):
    """What a topic is for."""

    REQUESTS = "requests"
    RESULTS = "results"
    DEAD_LETTERS = "dead letters"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic that there must be."""

    name: str
    role: Role
    partitions_min: int


@dataclass(frozen=True, slots=True)
class Misfit:
    """A topic that is not as it must be, and what mends it; ``fatal`` if the service refuses to start or may fail."""

    topic: str
    text: str
    mend: str
    fatal: bool = True


def wanted_topics(settings: KafkaSettings, lanes: Lanes, slots: int) -> list[Wanted]:
    """Every topic of the deployment; the request topics first, because the others are measured by them."""
    return [
        *(Wanted(name, Role.REQUESTS, 1) for name in settings.request_topics),
        *(Wanted(name, Role.RESULTS, 1) for name in sorted(lanes.topics(settings.result_topic))),
        Wanted(settings.dead_letter_topic, Role.DEAD_LETTERS, 1),
        Wanted(settings.ledger_topic, Role.LEDGER, slots),
    ]


def record_bytes_max(configs: Mapping[str, str]) -> int:
    """The largest batch of records that a topic takes."""
    return int(configs.get("max.message.bytes") or RECORD_BYTES)


def misfits(
    wanted: Wanted, topic: Topic | None, configs: Mapping[str, str], request_bytes: int, brokers: int
) -> Iterator[Misfit]:
    """What is wrong with one topic.

    Args:
        wanted: what it must be.
        topic: what it is; None when it does not exist.
        configs: its settings in force.
        request_bytes: the largest `max.message.bytes` of the request topics.
        brokers: how many there are.
    """
    if topic is None:
        yield Misfit(wanted.name, f"the topic for {wanted.role} does not exist", "penstock check --create-topics")
        return
    yield from weak_replication(topic, int(configs.get("min.insync.replicas") or 1), brokers)
    policy = configs.get("cleanup.policy", "delete")
    if wanted.role is Role.LEDGER:
        if policy != "compact":
            yield Misfit(wanted.name, f"cleanup.policy is {policy}, must be compact alone", alter(wanted.name, COMPACT))
        if topic.partitions < wanted.partitions_min:
            yield Misfit(
                wanted.name,
                f"{topic.partitions} partitions, PENSTOCK_PUBLISHER_SLOTS needs {wanted.partitions_min}",
                f"kafka-topics.sh --alter --topic {wanted.name} --partitions {wanted.partitions_min}, or fewer slots",
            )
        return
    if "compact" in policy:
        yield Misfit(
            wanted.name,
            f"cleanup.policy is {policy}: compaction removes {wanted.role} that share a key",
            alter(wanted.name, "cleanup.policy=delete"),
            fatal=wanted.role is Role.REQUESTS,
        )
    if wanted.role is not Role.REQUESTS and record_bytes_max(configs) < request_bytes:
        yield Misfit(
            wanted.name,
            f"max.message.bytes is {record_bytes_max(configs)}, request topics take {request_bytes}",
            alter(wanted.name, f"max.message.bytes={request_bytes}"),
        )


def weak_replication(topic: Topic, in_sync: int, brokers: int) -> Iterator[Misfit]:
    """What a broker's loss would do to a topic: lose what was acknowledged, or stop the writing.

    Args:
        topic: with its replicas.
        in_sync: its `min.insync.replicas`.
        brokers: how many there are; one alone can keep no more than one replica.
    """
    name, replicas = topic.name, topic.replicas
    if in_sync > replicas:
        text = f"min.insync.replicas is {in_sync} of {replicas} replicas: nothing can be written"
        yield Misfit(name, text, alter(name, f"min.insync.replicas={max(1, replicas - 1)}"))
    elif brokers > 1 and replicas == 1:
        mend = "kafka-reassign-partitions.sh with 3 replicas, then min.insync.replicas=2"
        yield Misfit(name, "it has 1 replica: what its broker loses is lost", mend)
    elif replicas >= REPLICAS_MAX and in_sync == 1:
        text = "min.insync.replicas is 1: an acknowledged record may be on one broker alone"
        yield Misfit(name, text, alter(name, "min.insync.replicas=2"))
    elif 1 < replicas == in_sync:
        text = f"min.insync.replicas is {in_sync} of {replicas} replicas: one broker away stops the writing"
        yield Misfit(name, text, alter(name, f"min.insync.replicas={in_sync - 1}"), fatal=False)


def alter(topic: str, setting: str) -> str:
    """The command that changes a topic's setting."""
    return f"kafka-configs.sh --alter --topic {topic} --add-config {setting}"


async def create_missing(
    client: TopicClient, wanted: Sequence[Wanted], *, partitions: int = PARTITIONS, replicas: int | None = None
) -> list[str]:
    """Create the topics that do not exist, set as they must be; returns their names.

    Args:
        client: connected.
        wanted: from `wanted_topics`.
        partitions: of each topic but the ledger, which has one per slot.
        replicas: of each partition; by default as many as there are brokers, three at most.

    Raises:
        KafkaError: the brokers refuse.
    """
    cluster = await client.describe(each.name for each in wanted)
    existing = {*cluster.topics, *cluster.denied}  # what may not be described may be there
    replicas = replicas or min(REPLICAS_MAX, len((await client.admin.describe_cluster())["brokers"]))
    created = []
    for each in wanted:
        if each.name in existing:
            continue
        configs = {"cleanup.policy": "compact" if each.role is Role.LEDGER else "delete"}
        if replicas >= REPLICAS_MAX:
            configs["min.insync.replicas"] = "2"  # an acknowledged record outlives a broker
        if each.role in (Role.RESULTS, Role.DEAD_LETTERS):
            configs["max.message.bytes"] = str(await request_bytes_max(client, wanted))
        count = each.partitions_min if each.role is Role.LEDGER else partitions
        await client.create_topic(each.name, count, replicas, configs)
        created.append(each.name)
        while each.name not in (await client.describe([each.name])).topics:  # noqa: ASYNC110 - the broker tells no event
            await asyncio.sleep(VISIBLE_SECONDS)
    return created


async def request_bytes_max(client: TopicClient, wanted: Sequence[Wanted]) -> int:
    """The largest `max.message.bytes` among the request topics."""
    sizes = [record_bytes_max(await client.configs(each.name)) for each in wanted if each.role is Role.REQUESTS]
    return max(sizes)
