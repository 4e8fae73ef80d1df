"""The composition root: every stage is put together here, of just what it needs, and nowhere else."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette

from penstock.accounts import Account
from penstock.core.errors import ConfigurationError
from penstock.core.gathering import Rules
from penstock.core.lane import OTHER, LaneKey, Lanes
from penstock.core.ledger import disagreement
from penstock.core.request import RequestLimits
from penstock.http.webhook import PATH, Receiver, webhook_application
from penstock.kafka.layout import wanted_topics
from penstock.kafka.ledger import read_every_slot
from penstock.kafka.request_consumer import RequestConsumer
from penstock.kafka.right import RightsMissing
from penstock.kafka.rights import missing_on_topics
from penstock.kafka.topics import Cluster, TopicClient
from penstock.postgres.account_store import AccountStore
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
from penstock.provider.clients import ProviderClients
from penstock.provider.webhook import WebhookReader
from penstock.settings import Settings
from penstock.spool import Spool
from penstock.stages.acquaintance import Acquaintance
from penstock.stages.census import Census
from penstock.stages.collector import Collector
from penstock.stages.downloader import Downloader
from penstock.stages.granter import Granter
from penstock.stages.intake import Intake
from penstock.stages.janitor import Janitor
from penstock.stages.lease import LeaseKeeper
from penstock.stages.poller import Poller
from penstock.stages.publisher import Publisher
from penstock.stages.refusals import Refusals
from penstock.stages.sealer import Sealer
from penstock.stages.slot_tools import SlotTools
from penstock.stages.stage import Stage
from penstock.stages.submitter import Submitter
from penstock.stages.watchdog import Watchdog
from penstock.telemetry import metrics

LIMITED = frozenset({"seal", "submit"})
"""What replicas leave to those with newer limits: only one that does it can take it over (B6)."""
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
        if cluster.denied:
            described = wanted_topics(kafka, lanes, settings.publisher.slots)
            raise RightsMissing(missing_on_topics(described, cluster))
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
        accounts: of the provider, by name.
        bound: what the brokers said.
        replica: this process.
        drain: stages end when it is set.
        database: open.
        spool: open.
        clients: of the accounts.
        keeper: of this process's leases.
        names: of the stages that run here.
    """

    settings: Settings
    lanes: Lanes
    accounts: Mapping[str, Account]
    bound: Bound
    replica: uuid.UUID
    drain: asyncio.Event
    database: Database
    spool: Spool
    clients: ProviderClients
    keeper: LeaseKeeper
    names: frozenset[str]
    reader: ChunkReader = field(init=False)
    acquaintance: Acquaintance = field(init=False)
    census: Census = field(init=False)

    def __post_init__(self) -> None:
        self.reader = ChunkReader(self.database)
        self.acquaintance = Acquaintance(AccountStore(self.database), self.clients)
        metrics.show_lanes(self.lanes.names)
        self.census = Census(
            self.drain,
            CensusStore(self.database),
            self.keeper,
            generation=self.settings.generation,
            heeded=bool(self.names & LIMITED),
            lanes=self.lanes,
            accounts={name: each.provider for name, each in self.accounts.items()},
            database_bytes_max=self.settings.postgres.size_bytes_max,
            look_up_seconds=self.settings.submitter.look_up_seconds,
            validating_seconds_max=self.settings.submitter.validating_seconds_max,
            lane_label=self.lane_label,
            data_lost=self.data_lost,
        )

    async def data_lost(self) -> str | None:
        """Why Postgres must have lost data, by the whole ledger's word (P6); None when it need not have."""
        kafka = self.settings.kafka
        reason = None
        for _look in range(2):  # what was taken out of both between two looks proves nothing
            ledger = await read_every_slot(kafka, kafka.ledger_topic, f"penstock-{self.replica.hex[:8]}")
            known, _ = await PublisherStore(self.database).known(None, ledger)
            reason = disagreement(ledger, {batch_id: row.decision_id for batch_id, row in known.items()})
            if reason is None:
                break
        return reason

    def stages(self) -> list[Stage]:
        """The stages that were named (see `makers`), and those that run in every process."""
        chosen = (stage for name, make in self.makers().items() if name in self.names for stage in make())
        return [self.census, Watchdog(self.drain, self.spool), *chosen]

    def makers(self) -> dict[str, Callable[[], Sequence[Stage]]]:
        """How the stages of each name are made; the publisher collects too."""
        return {
            "intake": lambda: [self.intake()],
            "seal": lambda: [self.sealer()],
            "submit": lambda: [self.granter(), *map(self.submitter, self.accounts)],
            "poll": lambda: [self.poller(name) for name in self.accounts],
            "publish": lambda: [self.publisher()],
            "janitor": lambda: [self.janitor()],
        }

    def lane_label(self, key: LaneKey) -> str:
        """A lane's bounded name for metrics: as configured, or `other`."""
        if key.dead:
            return "dead-letters"
        return self.lanes.policy(key).name or OTHER

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
            creates_per_hour={name: each.provider.creates_per_hour for name, each in self.accounts.items()},
            usd_per_day={
                name: each.provider.usd_per_day_max
                for name, each in self.accounts.items()
                if each.provider.usd_per_day_max is not None
            },
            backlog_limits={
                topic: self.lanes.backlogs.get(topic, limit) for topic in self.settings.kafka.request_topics
            },
            lane_label=self.lane_label,
        )

    def granter(self) -> Granter:
        """Batches to their tokens."""
        return Granter(self.drain, self.submitter_store(), self.keeper, self.census, self.lanes, self.accounts.keys())

    def submitter_store(self) -> SubmitterStore:
        """What the granter and the submitters read and write."""
        settings = self.settings
        return SubmitterStore(
            self.database,
            self.replica,
            settings.lease.seconds,
            settings.publisher.slots,
            settings.submitter.validating_seconds_max,
        )

    def submitter(self, account: str) -> Submitter:
        """Batches to an account."""
        return Submitter(
            self.drain,
            self.settings.submitter,
            self.accounts[account].provider,
            self.submitter_store(),
            self.reader,
            self.clients.of(account),
            self.acquaintance,
            self.keeper,
            self.census,
            self.spool,
            deployment=self.settings.deployment,
            lane_label=self.lane_label,
            accounts=AccountStore(self.database),
            refusals=self.refusals(),
        )

    def refusals(self) -> Refusals:
        """What follows when the provider refuses a batch."""
        store = CollectorStore(self.database, self.settings.publisher.slots)
        return Refusals(store, AccountStore(self.database), self.lanes)

    def poller(self, account: str) -> Poller:
        """An account's word on its batches."""
        hints = self.accounts[account].webhook is not None
        return Poller(
            self.drain,
            self.settings.poller.hinted() if hints else self.settings.poller,
            account,
            PollerStore(self.database),
            self.clients.of(account),
            self.acquaintance,
            self.keeper,
            self.lane_label,
            hints=hints,
        )

    def webhooks(self) -> Starlette:
        """The accounts' hints that batches have ended, those of the first one without its name in the path."""
        receivers = {}
        for name, account in self.accounts.items():
            if account.webhook is not None:
                reader = WebhookReader(account.webhook, self.clients.of(name))
                path = PATH if name == self.settings.provider.account else f"{PATH}/{name}"
                receivers[path] = Receiver(reader.read, WebhookStore(self.database, name).note)
        return webhook_application(receivers)

    def publisher(self) -> Publisher:
        """Finished batches to results."""
        settings = self.settings
        collector = Collector(
            CollectorStore(self.database, settings.publisher.slots),
            self.reader,
            self.lanes,
            self.lane_label,
            settings.publisher.unreadable_max,
            self.refusals(),
        )
        downloader = Downloader(self.clients, self.spool, self.acquaintance, settings.publisher.file_gone_seconds)
        tools = SlotTools(
            settings.kafka,
            settings.publisher,
            settings.janitor.file_grace_seconds,
            self.bound.cluster.topics[settings.kafka.ledger_topic].id,
            PublisherStore(self.database),
            self.reader,
            downloader,
            collector,
            self.bound.record_bytes_max,
        )
        return Publisher(
            self.drain, self.keeper, self.census, tools, deployment=settings.deployment, replica=self.replica
        )

    def janitor(self) -> Janitor:
        """What is over, removed."""
        return Janitor(
            self.drain,
            self.settings.janitor,
            JanitorStore(self.database),
            self.clients.clients,
            self.keeper,
            deployment=self.settings.deployment,
            history_seconds=self.settings.history_days * 86400,
        )
