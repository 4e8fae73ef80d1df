"""The composition root: every stage is put together here, of just what it needs, and nowhere else."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.applications import Starlette

from penstock.core.errors import ConfigurationError
from penstock.core.gathering import Rules
from penstock.core.lane import LaneKey, Lanes
from penstock.core.request import RequestLimits
from penstock.http.webhook import webhook_application
from penstock.kafka.request_consumer import RequestConsumer
from penstock.kafka.topics import Cluster, TopicClient
from penstock.postgres.batch_row import ChunkReader
from penstock.postgres.census_store import CensusStore
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Database
from penstock.postgres.deployment_store import DeploymentStore
from penstock.postgres.intake_store import IntakeStore
from penstock.postgres.janitor_store import JanitorStore
from penstock.postgres.poller_store import PollerStore
from penstock.postgres.publisher_store import PublisherStore
from penstock.postgres.submitter_store import SubmitterStore
from penstock.postgres.webhook_store import WebhookStore
from penstock.postgres.window_store import WindowStore
from penstock.provider.client import ProviderClient
from penstock.provider.webhook import WebhookReader
from penstock.settings import Settings
from penstock.spool import Spool
from penstock.stages.census import Census
from penstock.stages.collector import Collector
from penstock.stages.intake import Intake
from penstock.stages.janitor import Janitor
from penstock.stages.lease import LeaseKeeper
from penstock.stages.poller import Poller
from penstock.stages.publisher import Publisher
from penstock.stages.sealer import Sealer
from penstock.stages.slot import SlotTools
from penstock.stages.stage import Stage
from penstock.stages.submitter import Submitter
from penstock.stages.watchdog import Watchdog

RECORD_BYTES = 1024 * 1024
"""Kafka's default `max.message.bytes`, where a topic's own cannot be read."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What the brokers say at start.

    Args:
        cluster: its id and the topics.
        record_bytes_max: the largest record of each topic that is written.
        retention_seconds: of each request topic that has a limit.
    """

    cluster: Cluster
    record_bytes_max: dict[str, int]
    retention_seconds: dict[str, float]


async def bind(settings: Settings, lanes: Lanes, database: Database) -> Bound:
    """Hold the deployment against the cluster and ledger it was first started with (B4).

    Raises:
        ConfigurationError: topics are missing or set wrong, or the database belongs elsewhere.
    """
    kafka = settings.kafka
    written = {*lanes.topics(kafka.result_topic), kafka.dead_letter_topic}
    wanted = {*kafka.request_topics, *written, kafka.ledger_topic}
    async with TopicClient(kafka, "penstock") as topics:
        cluster = await topics.describe(wanted)
        if missing := sorted(wanted - cluster.topics.keys()):
            raise ConfigurationError(f"topics are missing: {', '.join(missing)}; penstock check --create-topics")
        configs = {topic: await topics.configs(topic) for topic in wanted}
        ledger = cluster.topics[kafka.ledger_topic]
        if configs[ledger.name].get("cleanup.policy") != "compact":
            raise ConfigurationError(f"{ledger.name} must have cleanup.policy=compact and nothing else")
    if ledger.partitions < settings.publisher.slots:
        raise ConfigurationError(
            f"{ledger.name} has {ledger.partitions} partitions; PENSTOCK_PUBLISHER_SLOTS needs "
            f"{settings.publisher.slots}"
        )
    await DeploymentStore(database).bind(settings.deployment, cluster.id, ledger.id, ledger.partitions)
    return Bound(
        cluster,
        {topic: int(configs[topic].get("max.message.bytes") or RECORD_BYTES) for topic in written},
        {
            topic: milliseconds / 1000
            for topic in kafka.request_topics
            if (milliseconds := int(configs[topic].get("retention.ms") or -1)) > 0
        },
    )


@dataclass(slots=True)
class Composition:
    """The parts that stages share, and a method for each stage.

    Args:
        settings: everything.
        lanes: what the lanes file says.
        bound: what the brokers said.
        replica: this process.
        drain: stages end when it is set.
        database: open.
        spool: open.
        client: of the provider.
        keeper: of this process's leases.
    """

    settings: Settings
    lanes: Lanes
    bound: Bound
    replica: uuid.UUID
    drain: asyncio.Event
    database: Database
    spool: Spool
    client: ProviderClient
    keeper: LeaseKeeper
    reader: ChunkReader = field(init=False)
    census: Census = field(init=False)

    def __post_init__(self) -> None:
        self.reader = ChunkReader(self.database)
        self.census = Census(
            self.drain,
            CensusStore(self.database),
            self.keeper,
            generation=self.settings.generation,
            lanes=self.lanes,
            lane_label=self.lane_label,
        )

    def stages(self, names: frozenset[str]) -> list[Stage]:
        """The stages of these names (see `makers`), and those that run in every process."""
        chosen = (make() for name, make in self.makers().items() if name in names)
        return [self.census, Watchdog(self.drain), *chosen]

    def makers(self) -> dict[str, Callable[[], Stage]]:
        """How each stage is made; the publisher collects too."""
        return {
            "intake": self.intake,
            "seal": self.sealer,
            "submit": self.submitter,
            "poll": self.poller,
            "publish": self.publisher,
            "janitor": self.janitor,
        }

    def lane_label(self, key: LaneKey) -> str:
        """A lane's bounded name for metrics: as configured, or `other`."""
        if key.dead:
            return "dead-letters"
        return self.lanes.policy(key).name or "other"

    def intake(self) -> Intake:
        """Request topics to chunks."""
        return Intake(
            self.drain,
            self.settings.intake,
            self.settings.kafka.start_at,
            self.rules(),
            IntakeStore(self.database, self.bound.cluster.id),
            self.bound.retention_seconds,
            self.consumer,
            self.lane_label,
        )

    def consumer(self) -> RequestConsumer:
        """A member of the group, not yet started."""
        return RequestConsumer(self.settings.kafka, self.settings.group, self.replica)

    def rules(self) -> Rules:
        """What intake validates against."""
        kafka = self.settings.kafka
        return Rules(
            account=self.settings.provider.account,
            lanes=self.lanes,
            limits=RequestLimits(self.settings.intake.body_bytes_max),
            result_topic=kafka.result_topic,
            dead_letter_topic=kafka.dead_letter_topic,
            result_topics=self.lanes.topics(kafka.result_topic),
        )

    def sealer(self) -> Sealer:
        """Chunks to batches."""
        limit = self.settings.intake.backlog_bytes_max
        return Sealer(
            self.drain,
            WindowStore(self.database),
            self.keeper,
            self.census,
            self.lanes,
            slots=self.settings.publisher.slots,
            creates_per_hour=self.settings.provider.creates_per_hour,
            backlog_limits={
                topic: self.lanes.backlogs.get(topic, limit) for topic in self.settings.kafka.request_topics
            },
            lane_label=self.lane_label,
        )

    def submitter(self) -> Submitter:
        """Batches to the provider."""
        settings = self.settings
        return Submitter(
            self.drain,
            settings.submitter,
            settings.provider,
            SubmitterStore(self.database, self.replica, settings.lease.seconds, settings.publisher.slots),
            self.reader,
            self.client,
            self.keeper,
            self.census,
            self.spool,
            self.lanes,
            deployment=settings.deployment,
            lane_label=self.lane_label,
        )

    def poller(self) -> Poller:
        """The provider's word on batches."""
        return Poller(
            self.drain,
            self.settings.poller,
            self.settings.provider.account,
            PollerStore(self.database),
            self.client,
            self.keeper,
            self.lane_label,
            hints=self.settings.webhook.port is not None,
        )

    def webhooks(self) -> Starlette:
        """The provider's hints that batches have ended."""
        reader = WebhookReader(self.settings.webhook, self.client)
        store = WebhookStore(self.database, self.settings.provider.account)
        return webhook_application(reader.read, store.note)

    def publisher(self) -> Publisher:
        """Finished batches to results."""
        settings = self.settings
        collector = Collector(
            CollectorStore(self.database, settings.publisher.slots),
            self.reader,
            self.client,
            self.spool,
            self.lanes,
            self.lane_label,
            settings.publisher.file_gone_seconds,
        )
        tools = SlotTools(
            settings.kafka,
            settings.publisher,
            settings.janitor.file_grace_seconds,
            self.bound.cluster.topics[settings.kafka.ledger_topic].id,
            PublisherStore(self.database),
            self.reader,
            collector,
            self.bound.record_bytes_max,
        )
        return Publisher(self.drain, self.keeper, tools, deployment=settings.deployment, replica=self.replica)

    def janitor(self) -> Janitor:
        """What is over, removed."""
        return Janitor(
            self.drain,
            self.settings.janitor,
            JanitorStore(self.database),
            self.client,
            self.keeper,
            deployment=self.settings.deployment,
            history_seconds=self.settings.history_days * 86400,
        )
