"""The checks of `penstock check`: each finds all that is wrong with its part, and says what mends it."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from penstock.accounts import Account, missing_key
from penstock.cli.finding import Finding, Level, Part
from penstock.cli.fit import broker_misfits, own_misfits, server_misfits
from penstock.cli.outcome import sentence
from penstock.configuration import collect_configuration
from penstock.core.errors import ConfigurationError, ProviderDenied, ProviderError
from penstock.core.identity import slot_prefix, transactional_id
from penstock.core.lane import Lanes
from penstock.core.problems import Problems
from penstock.kafka.layout import PARTITIONS, Role, Wanted, create_missing, misfits, record_bytes_max, wanted_topics
from penstock.kafka.right import RightsMissing
from penstock.kafka.rights import RightProver, missing_on_topics
from penstock.kafka.topics import Cluster, NoTopicIds, Topic, TopicClient
from penstock.network import Unreachable, lowered
from penstock.postgres.census_store import CensusStore, without_account
from penstock.postgres.database import opened
from penstock.postgres.migrate import migrations, schema_version
from penstock.postgres.preflight_store import PreflightStore
from penstock.provider.client import ProviderClient
from penstock.settings import ProviderSettings, Settings, SpoolSettings, WebhookSettings, mistakes
from penstock.variables import PREFIX, read_values, unknown_variables

SECONDS = 20.0
POSTGRES_MIN = 14
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
MOUNTS = Path("/proc/self/mounts")


@dataclass(slots=True)
class Preflight:
    """Looks at everything that the service needs, and collects what it finds.

    Args:
        parts: what is looked at beside settings and lanes.
        create_topics: create the topics that are missing first.
        partitions: of topics created.
        replicas: of topics created; None is as many as there are brokers, three at most.
        processes: that are to run at a time; None is as many as run now.
    """

    parts: frozenset[Part] = frozenset(Part)
    create_topics: bool = False
    partitions: int = PARTITIONS
    replicas: int | None = None
    processes: int | None = None
    findings: list[Finding] = field(default_factory=list)
    cluster: Cluster | None = None

    def ok(self, part: str, text: str) -> None:
        """Something is as it must be."""
        self.findings.append(Finding(part, Level.OK, text))

    def warn(self, part: str, text: str, mend: str) -> None:
        """Something is dangerous, but the service runs."""
        self.findings.append(Finding(part, Level.WARNING, text, mend))

    def problem(self, part: str, text: str, mend: str) -> None:
        """The service would not run, or not well."""
        self.findings.append(Finding(part, Level.PROBLEM, text, mend))

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return all(each.level is not Level.PROBLEM for each in self.findings)

    async def run(self) -> None:
        """Every check; a part whose own settings are wrong is left out, the others are looked at all the same."""
        settings, wrong = self.read_settings()
        self.check_variables()
        if settings is None:
            return
        lanes, accounts = self.read_configuration(settings)
        self.findings += own_misfits(settings, lanes, [each.provider for each in accounts.values()])
        left = self.parts - wrong
        if Part.KAFKA in left:
            await self.check_kafka(settings, lanes)
        if Part.POSTGRES in left:
            await self.check_postgres(settings, accounts, bound="deployment" not in wrong)
        if Part.SPOOL in left:
            await asyncio.to_thread(self.check_spool, settings.spool)
        for name, account in accounts.items():
            first = name == settings.provider.account
            if Part.PROVIDER in (left if first else self.parts):
                await self.check_provider(account.provider, first=first)
            if Part.WEBHOOK in left and account.webhook is not None:
                self.check_webhook(account.webhook, settings.webhook.port)

    def read_settings(self) -> tuple[Settings | None, frozenset[str]]:
        """The settings, with defaults for those that are wrong, and the names of the sections of those."""
        given, wrong = read_values(Settings, os.environ), set[str]()
        while True:
            try:
                settings = Settings.model_validate(given)
            except ValidationError as error:
                for each in mistakes(error):
                    self.problem("settings", each, "see docs/reference/settings.md")
                places = {tuple(map(str, each["loc"][:2])) or ("kafka",) for each in error.errors()}
                wrong |= {place[0] for place in places}
                taken_out = [take_out(given, place) for place in places]
                if not all(taken_out):
                    return None, frozenset(wrong)
            else:
                if not wrong:
                    self.ok("settings", "every variable is valid")
                return settings, frozenset(wrong)

    def read_configuration(self, settings: Settings) -> tuple[Lanes, dict[str, Account]]:
        """Lanes and accounts, without what is wrong with them."""
        problems = Problems()
        found = collect_configuration(settings, problems)
        for each in problems.found:
            self.problem("lanes", each, f"correct the place that is named ({settings.lanes_file or 'no lanes file'})")
        if settings.lanes_file is not None and not problems.found:
            self.ok("lanes", f"{settings.lanes_file} is valid, with {len(found.lanes.rules)} rules")
        return found.lanes, found.accounts

    def check_webhook(self, settings: WebhookSettings, port: int | None) -> None:
        """The secret without which no webhook is believed."""
        try:
            settings.read_secret()
        except (ConfigurationError, OSError) as error:
            self.problem("webhook", str(error), "put the secret of the provider's webhook there")
        else:
            self.ok("webhook", f"the secret is there; webhooks come to port {port}, polling is slow")

    def check_variables(self) -> None:
        """Variables that begin like ours and are none of ours: every command that reads settings refuses them."""
        for each in unknown_variables(Settings, os.environ):
            self.problem("settings", each, "correct the name, or remove the variable")

    @asynccontextmanager
    async def reaching(self, part: str, mend: str) -> AsyncIterator[None]:
        """Turn what a server that cannot be reached or refuses raises into a problem."""
        try:
            async with asyncio.timeout(SECONDS):
                yield
        except NoTopicIds as error:
            self.problem(part, str(error), "upgrade the brokers, or raise their inter-broker protocol version")
        except Unreachable as error:
            self.problem(part, error.what, error.fix)
        except TimeoutError:
            self.problem(part, f"no answer in {SECONDS:.0f} s", mend)
        except (OSError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError, ConfigurationError) as error:
            self.problem(part, sentence(error), mend)

    async def check_kafka(self, settings: Settings, lanes: Lanes) -> None:
        """Brokers, and every topic with its settings."""
        wanted = wanted_topics(settings.kafka, lanes, settings.publisher.slots)
        mend = f"check {PREFIX}KAFKA_BOOTSTRAP_SERVERS ({settings.kafka.bootstrap_servers}) and its security settings"
        async with self.reaching("kafka", mend), TopicClient(settings.kafka, "penstock-check") as client:
            if self.create_topics:
                for name in await create_missing(client, wanted, partitions=self.partitions, replicas=self.replicas):
                    self.ok("kafka", f"created {name}")
            self.cluster = await client.describe((each.name for each in wanted), operations=True)
            self.ok("kafka", f"the brokers of cluster {self.cluster.id} answer")
            topics = self.cluster.topics
            self.check_epochs(topics)
            configs = await self.check_rights(client, settings, wanted, self.cluster)
            requests = [each.name for each in wanted if each.role is Role.REQUESTS and each.name in topics]
            request_bytes = max((record_bytes_max(configs[name]) for name in requests if name in configs), default=0)
            brokers = await client.brokers()
            self.findings += broker_misfits(settings, await client.broker_configs(brokers[0]))
            if len(brokers) == 1:
                self.warn("kafka", "there is one broker: what it loses is lost", "three brokers, for data that counts")
            for each in wanted:
                if each.name in self.cluster.denied or (each.name in topics and each.name not in configs):
                    continue  # what may not be read is told as that
                found = list(
                    misfits(each, topics.get(each.name), configs.get(each.name, {}), request_bytes, len(brokers))
                )
                for misfit in found:
                    report = self.problem if misfit.fatal else self.warn
                    report("kafka", f"{misfit.topic}: {misfit.text}", misfit.mend)
                if not found:
                    self.ok("kafka", f"{each.name}: {each.role}, {topics[each.name].partitions} partitions")

    async def check_rights(
        self, client: TopicClient, settings: Settings, wanted: Sequence[Wanted], cluster: Cluster
    ) -> dict[str, dict[str, str]]:
        """Every right that `penstock run` needs; returns the settings of the topics whose settings may be read."""
        configs: dict[str, dict[str, str]] = {}
        missing = missing_on_topics(wanted, cluster)
        for name in [*cluster.topics, *sorted(cluster.denied)]:
            try:
                configs[name] = await client.configs(name)
            except RightsMissing as error:
                missing += [right for right in error.rights if right not in missing]
        slots = range(settings.publisher.slots)
        ids = [transactional_id(settings.deployment, slot) for slot in slots]
        missing += await RightProver(client).missing(settings.group, ids, slot_prefix(settings.deployment))
        for right in missing:
            self.problem("kafka", f"the brokers do not allow {right}", right.command)
        silent = sorted(name for name, topic in cluster.topics.items() if topic.operations is None)
        if silent:
            text = f"the brokers do not tell what may be done with {', '.join(silent)}"
            self.warn("kafka", f"{text}: rights on topics are not proven", "see docs/kubernetes.md for the rights")
        elif not missing:
            self.ok("kafka", "every right that the service needs is there")
        return configs

    def check_epochs(self, topics: Mapping[str, Topic]) -> None:
        """Without leader epochs nobody sees that a log lost records and was filled again."""
        blind = sorted(name for name, topic in topics.items() if any(each.epoch < 0 for each in topic.leaders.values()))
        if blind:
            text = f"the brokers tell no leader epochs of {', '.join(blind)}"
            mend = "brokers that keep leader epochs, or no unclean leader elections"
            self.warn("kafka", f"{text}: a log that loses records and is filled again is not noticed", mend)

    async def check_postgres(self, settings: Settings, accounts: Container[str], *, bound: bool) -> None:
        """Server, durability, schema, what the database is bound to, and whether its accounts are all there."""
        async with self.reaching("postgres", f"check {PREFIX}POSTGRES_DSN"), opened(settings) as database:
            store = PreflightStore(database)
            server = await store.server()
            if server.major < POSTGRES_MIN:
                self.problem("postgres", f"version {server.version}", f"needed is {POSTGRES_MIN} or later")
            elif server.in_recovery:
                self.problem("postgres", "the server is a read-only standby", "use the primary's address")
            else:
                self.ok("postgres", f"version {server.version} answers")
            if server.synchronous_commit == "off" or server.fsync == "off":
                text = f"synchronous_commit is {server.synchronous_commit}, fsync is {server.fsync}"
                self.warn("postgres", f"{text}: a crash loses commits", "set both to on")
            version, newest = await schema_version(database), migrations()[-1].version
            if version < newest:
                self.problem("postgres", f"the schema is at version {version}, needed is {newest}", "penstock migrate")
                return
            self.ok("postgres", f"the schema is at version {version}")
            processes = self.processes or max(1, await store.processes())
            self.findings += server_misfits(settings, server.connections, processes)
            if bound:
                await self.check_binding(store, settings)
            if self.cluster and (count := await store.without_epoch(self.cluster.id, settings.kafka.request_topics)):
                text = f"{count:,} partitions have a position without a leader epoch"
                mend = "run a replica of this version: it stores the epoch as soon as it has the partition"
                self.warn("postgres", f"{text}: a log that lost records before then cannot be told", mend)
            waits = (await CensusStore(database).gauges()).waits
            for account, requests in without_account(waits, accounts).items():
                text = f"{requests:,} requests wait for account {account!r}, which is configured no more"
                self.problem("accounts", text, "put it back into the lanes file until nothing waits for it")

    async def check_binding(self, store: PreflightStore, settings: Settings) -> None:
        """The database serves this deployment on this cluster with this ledger, or nothing yet (B4)."""
        cluster_id = self.cluster.id if self.cluster else None
        for each in await store.bindings():
            if each.deployment != settings.deployment:
                text = f"the database serves deployment {each.deployment}, {PREFIX}DEPLOYMENT is {settings.deployment}"
                self.problem("deployment", text, f"set {PREFIX}DEPLOYMENT={each.deployment}, or use another database")
            elif cluster_id not in (None, each.kafka_cluster_id):
                text = f"the database belongs to Kafka cluster {each.kafka_cluster_id}, the brokers are {cluster_id}"
                self.problem("deployment", text, "use that cluster's brokers, or another database")
            elif not self.has_ledger(settings.kafka.ledger_topic, each.ledger_topic_id):
                text = f"{settings.kafka.ledger_topic} is not the ledger that this deployment began with"
                self.problem("deployment", text, "name the original topic; a new ledger takes a new database")
            else:
                self.ok("deployment", f"the database is bound to {each.deployment}")

    def has_ledger(self, name: str, topic_id: uuid.UUID) -> bool:
        """Whether the ledger is there under its id; one that is missing is a finding of its own."""
        topic = self.cluster.topics.get(name) if self.cluster else None
        return topic is None or topic.id == topic_id

    def check_spool(self, settings: SpoolSettings) -> None:
        """The folder for uploads and downloads: writable, on a disk, with room."""
        probe = settings.folder / f"check-{uuid.uuid4().hex}"
        try:
            settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe.write_bytes(b"penstock")
            probe.unlink()
        except OSError as error:
            text = f"{settings.folder} cannot be written: {lowered(error.strerror)}"
            self.problem("spool", text, f"set {PREFIX}SPOOL_FOLDER to a folder that can be written")
            return
        kind = file_system(settings.folder)
        if kind in MEMORY_FILE_SYSTEMS:
            self.warn("spool", f"{settings.folder} is on {kind}: batches would fill memory", "use a folder on disk")
        free, budget = shutil.disk_usage(settings.folder).free, settings.upload_bytes_max + settings.download_bytes_max
        if free < budget:
            text = f"{free / 1e9:.1f} GB are free, uploads and downloads may take {budget / 1e9:.1f} GB"
            self.warn("spool", text, f"more disk, or lower {PREFIX}SPOOL_UPLOAD_BYTES_MAX and …DOWNLOAD_BYTES_MAX")
        self.ok("spool", f"{settings.folder} can be written")

    async def check_provider(self, settings: ProviderSettings, *, first: bool) -> None:
        """An account's key, by listing a page of batches.

        Args:
            settings: of the account.
            first: it is that of the settings, not one of the lanes file.
        """
        who = f"{settings.account} at {settings.base_url}"
        place = f"{PREFIX}PROVIDER_" if first else f"account {settings.account!r} of the lanes file: "
        if without := missing_key(settings, first=first):
            self.problem("provider", without, "penstock run refuses to start without it")
            return
        client = ProviderClient(settings)
        try:
            async with asyncio.timeout(SECONDS):
                await client.page(None)
            self.ok("provider", f"{who} takes the key")
        except ProviderDenied as error:
            mend = f"check {place}{'API_KEY' if first else 'api_key_file'} and its rights to files and batches"
            self.problem("provider", f"{who}: {error}", mend)
        except (ProviderError, TimeoutError, ValueError) as error:
            mend = f"check {place}{'BASE_URL' if first else 'base_url'} and the network"
            self.problem("provider", f"{who}: {sentence(error)}", mend)
        finally:
            await client.close()


def take_out(values: dict[str, Any], place: tuple[str, ...]) -> bool:
    """Take a setting out, or a whole section; returns whether it was there."""
    section, *name = place
    inside = values.get(section)
    if name and isinstance(inside, dict):
        return inside.pop(name[0], None) is not None
    return values.pop(section, None) is not None


def file_system(folder: Path) -> str:
    """The kind of file system that holds a folder; empty where the system does not say."""
    if not MOUNTS.exists():
        return ""
    mounts = [line.split()[1:3] for line in MOUNTS.read_text().splitlines()]
    return max(((place, kind) for place, kind in mounts if folder.resolve().is_relative_to(place)), key=length)[1]


def length(mount: Iterable[str]) -> int:
    """How deep a mount lies; the deepest one holds the folder."""
    return len(next(iter(mount)))
