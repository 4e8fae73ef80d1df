"""`penstock resume restored`: go on with a database that was restored from an older backup.

What Postgres lost is told by those who still know it: the result topics, which requests are answered; the provider,
which batches it has; Kafka's group, how far intake was.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import typer
from aiokafka import TopicPartition

from penstock.accounts import read_accounts
from penstock.cli.outcome import command
from penstock.core.answered import Answered, Gatherer
from penstock.core.batch import BatchState, ProviderBatch, is_terminal
from penstock.core.errors import ConfigurationError, ProviderError
from penstock.core.identity import parse_result_id, transactional_id
from penstock.core.ledger import LedgerRecord, encode_ledger
from penstock.kafka.ledger import read_ledger
from penstock.kafka.record_reader import RecordReader
from penstock.kafka.result_producer import ResultProducer
from penstock.kafka.topics import Cluster, TopicClient
from penstock.postgres.batch_row import BatchRow
from penstock.postgres.database import Database, opened
from penstock.postgres.intake_store import IntakeStore, Place, Stand
from penstock.postgres.janitor_store import JanitorStore
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.migrate import require_schema
from penstock.postgres.publisher_store import PublisherStore
from penstock.postgres.restore_store import Replaced, RestoreStore
from penstock.provider.client import ProviderClient
from penstock.settings import Settings
from penstock.stages.assignment import WENT_BACK, mend_of
from penstock.stages.janitor import SCAN_BACK, batch_of, uuid_of
from penstock.stages.lease import Lease

SLOT_SECONDS = 60.0
"""A slot's lease, renewed until all is done; a replica that has one gives it back within its own lease time."""
POLL_SECONDS = 0.5
CLIENT = "penstock-resume"
RESULT_ID = "penstock-result-id"


def restored(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Go on after Postgres was restored from an older backup, or lost data otherwise.

    Stop the replicas, restore, `penstock resume restored`, start them. It fences every publisher, reads the result and
    dead-letter topics to see which requests are answered (those are not taken in, tried or published again), adopts
    the batches that the provider has of those waiting here, cancels its batches that nothing here knows, makes the
    ledger agree, and lets the partitions go on that halted because Kafka's group is ahead. It can be called again.

    What it cannot see is doubled: results that the topics no longer hold. What was at the provider and is not known
    here is paid for again.

    For example:

    * `penstock resume restored --yes`
    """

    async def main(settings: Settings) -> None:
        async with TopicClient(settings.kafka, CLIENT) as client, opened(settings) as database:
            await require_schema(database)
            restoration = Restoration(settings, client, database)
            await restoration.prepare()
            typer.echo(f"deployment {settings.deployment}: no replica may publish until this has ended")
            if not yes:
                typer.confirm("Go on?", abort=True)
            await restoration.run()

    command(main)


class Restoration:
    """One call.

    Args:
        settings: those of the replicas.
        client: connected.
        database: open, of this version's schema.
    """

    def __init__(self, settings: Settings, client: TopicClient, database: Database) -> None:
        self.settings = settings
        self.client = client
        self.database = database
        self.store = RestoreStore(database, settings.publisher.slots)
        self.leases = LeaseStore(database, uuid.uuid4(), SLOT_SECONDS)
        self.cluster = Cluster("", {})

    async def prepare(self) -> None:
        """See that all topics are there.

        Raises:
            ConfigurationError: one is missing.
        """
        kafka = self.settings.kafka
        wanted = {*kafka.request_topics, *self.answers, kafka.ledger_topic}
        self.cluster = await self.client.describe(wanted)
        if missing := sorted(wanted - self.cluster.topics.keys()):
            raise ConfigurationError(f"topics are missing: {', '.join(missing)}")

    @property
    def answers(self) -> Sequence[str]:
        """The topics that answers are in."""
        kafka = self.settings.kafka
        return sorted({*self.settings.read_lanes().topics(kafka.result_topic), kafka.dead_letter_topic})

    async def run(self) -> None:
        """Everything, in an order in which each step may be the last one for now."""
        slots = range(self.cluster.topics[self.settings.kafka.ledger_topic].partitions)
        async with self.held(slots) as leases:
            for slot in slots:
                async with self.producer(slot):
                    pass  # whoever published is fenced, and its transaction aborted
            fresh = await self.read_answers()
            answered = await self.store.note(fresh)
            typer.echo(f"{answered.requests:,} requests are answered")
            for slot in slots:
                await self.clear(slot, leases[slot])
            await self.settle_provider()
            closed = await self.store.close_unsealed(answered)
            for batch in await self.store.uncreated():
                if batch.state is BatchState.SEALED and not batch.key.dead:
                    closed += await self.store.cut_answered(batch, answered)
            typer.echo(f"{closed:,} answered requests waited here, and go nowhere")
        for line in await self.resume_partitions(answered):
            typer.echo(line)
        typer.echo("replicas go on within a minute")

    @asynccontextmanager
    async def held(self, slots: Sequence[int]) -> AsyncIterator[Mapping[int, Lease]]:
        """Every slot's lease.

        Raises:
            ConfigurationError: a replica holds one.
        """
        leases: dict[int, Lease] = {}
        async with AsyncExitStack() as stack:
            for slot in slots:
                lease = leases[slot] = await self.take(f"slot/{slot}")
                stack.push_async_callback(self.leases.release_lease, lease)
            renewing = asyncio.create_task(self.renew(list(leases.values())))
            stack.callback(renewing.cancel)
            yield leases

    async def take(self, name: str) -> Lease:
        """A lease, as soon as it is free."""
        for _ in range(int(self.settings.lease.seconds) + 1):
            epoch = await self.leases.acquire_lease(name)
            if epoch is not None:
                return Lease(name, epoch, SLOT_SECONDS, float("inf"), 0.0)
            await asyncio.sleep(1.0)
        raise ConfigurationError(f"a replica holds {name}: stop the replicas")

    async def renew(self, leases: Sequence[Lease]) -> None:
        """Keep leases, until it is cancelled."""
        while True:
            await asyncio.sleep(SLOT_SECONDS / 4)
            await self.leases.renew_leases(leases)

    @asynccontextmanager
    async def producer(self, slot: int) -> AsyncIterator[ResultProducer]:
        """The slot's producer, started: it has fenced every other one."""
        name = transactional_id(self.settings.deployment, slot)
        producer = ResultProducer(self.settings.kafka, name, SLOT_SECONDS)
        try:
            await producer.start()
            yield producer
        finally:
            await producer.stop()

    async def read_answers(self) -> Answered:
        """Every request that the result and dead-letter topics hold an answer to."""
        gatherer = Gatherer()
        async with RecordReader(self.settings.kafka, self.answers, from_beginning=True, client_id=CLIENT) as reader:
            ends = await reader.ends()
            while not await reader.has_passed(ends):
                for record in await reader.poll(POLL_SECONDS):
                    # Ours comes last: a dead letter has the message's own headers before it, whatever their names.
                    ids = [value for name, value in record.headers if name == RESULT_ID and value]
                    if ids and (place := parse_result_id(ids[-1].decode(errors="replace"), self.cluster.id)):
                        gatherer.add(place)
        return gatherer.answered()

    async def clear(self, slot: int, lease: Lease) -> None:
        """Take out of the ledger what Postgres does not know as published: now the result topics say what is."""
        topic = self.settings.kafka.ledger_topic
        async with self.producer(slot) as producer:
            ledger = await read_ledger(self.settings.kafka, topic, slot, CLIENT, SLOT_SECONDS)
            known, _ = await PublisherStore(self.database).known(lease, ledger)
            gone: list[LedgerRecord] = []
            for batch_id, record in ledger.items():
                row = known.get(batch_id)
                if row is None or row.state is not BatchState.PUBLISHED or row.decision_id != record.decision_id:
                    gone.append(record)
            if not gone:
                return
            now = await JanitorStore(self.database).database_clock()
            await producer.begin()
            for record in gone:
                key, _ = encode_ledger(record)
                if full := producer.append(topic, slot, key, None, [], int(now.timestamp() * 1000)):
                    await producer.send(topic, slot, full)
            await producer.flush()
            await producer.commit()
        typer.echo(f"slot {slot}: {len(gone)} batches of the ledger are not published here")

    async def settle_provider(self) -> None:
        """Adopt what the provider has of the batches that wait here, cancel what nothing here knows."""
        for name, account in read_accounts(self.settings, self.settings.read_lanes()).items():
            client = ProviderClient(account.provider)
            try:
                await self.settle_account(name, client)
            finally:
                await client.close()

    async def settle_account(self, account: str, client: ProviderClient) -> None:
        """The same for one account."""
        now = await JanitorStore(self.database).database_clock()
        listed = await client.back_to(now - SCAN_BACK)
        if listed.gap is not None:
            raise listed.gap
        seen = [
            each
            for each in listed.batches
            if each.metadata.get("penstock_deployment") == self.settings.deployment and each.status != "failed"
        ]
        waiting = {each.id: each for each in await self.store.uncreated() if each.key.account == account}
        owners = await JanitorStore(self.database).owners([each for each in map(batch_of, seen) if each])
        adopted = cancelled = 0
        for found in seen:  # newest first
            batch_id = batch_of(found)
            batch = waiting.pop(batch_id, None) if batch_id else None
            if batch is not None:
                adopted += await self.adopt(batch, found)
            elif batch_id not in owners and not is_terminal(found.status):
                with contextlib.suppress(ProviderError):
                    await client.cancel(found.id)
                    cancelled += 1
        typer.echo(f"account {account}: {adopted} of the provider's batches are adopted, {cancelled} cancelled")

    async def adopt(self, batch: BatchRow, found: ProviderBatch) -> bool:
        """Take over a batch that the provider has; whether it is named as creates name them."""
        create_id = uuid_of(found.metadata.get("penstock_create"))
        if create_id is None:
            return False
        await self.store.adopt(batch, found, create_id)
        return True

    async def resume_partitions(self, answered: Answered) -> list[str]:
        """Let every partition go on where Postgres stands, although Kafka's group is ahead of it; says which."""
        store = IntakeStore(self.database, self.cluster.id)
        said = []
        topics = self.settings.kafka.request_topics
        async with RecordReader(self.settings.kafka, topics, from_beginning=False, client_id=CLIENT) as reader:
            starts, ends = await reader.starts(), await reader.ends()
        offsets = await self.client.admin.list_consumer_group_offsets(self.settings.group, partitions=list(starts))
        places = {each: Place(self.cluster.topics[each.topic].id, each.partition) for each in starts}
        stands = await store.read_positions(places.values())
        for partition, first in sorted(starts.items()):
            place = places[partition]
            stand = stands.get(place)
            committed = offsets[partition].offset if partition in offsets else -1
            position = stand.position if stand else first
            incarnation, answered_from = answered.latest(place.topic_id.bytes, place.partition)
            if incarnation > (stand.incarnation if stand else 0):
                replaced = Replaced(partition.topic, position, incarnation, answered_from)
                await self.store.halt_replaced(self.cluster.id, place, replaced)
                mend = mend_of(partition, replaced.reason)
                said.append(f"{name_of(partition)} is halted: {replaced.reason}: {mend}")
                continue
            if not went_back(stand, committed):
                continue
            if not first <= position <= ends[partition]:
                said.append(f"{name_of(partition)} stays halted: it holds {first} to {ends[partition]}")
                continue
            await store.resume_partition(place, partition.topic, position, max(committed, 0))
            said.append(f"{name_of(partition)} goes on at {position}")
        return said


def went_back(stand: Stand | None, committed: int) -> bool:
    """Whether Kafka's group proves that Postgres lost data of a partition, and nothing else keeps it halted (I6)."""
    if stand is None:
        return committed >= 0
    other = stand.halted_reason is not None and not stand.halted_reason.startswith(WENT_BACK)
    return not other and (stand.halted_reason is not None or committed > max(stand.position, stand.acknowledged))


def name_of(partition: TopicPartition) -> str:
    """A partition, for people."""
    return f"{partition.topic} {partition.partition}"
