"""`penstock resume partition`."""

from dataclasses import dataclass
from typing import Annotated

import typer
from aiokafka import TopicPartition

from penstock.cli.outcome import command
from penstock.core.answered import has
from penstock.core.errors import ConfigurationError
from penstock.kafka.record_reader import RecordReader
from penstock.kafka.topics import TopicClient
from penstock.postgres.database import opened
from penstock.postgres.intake_store import HaltCode, IntakeStore, Place, Stand
from penstock.postgres.migrate import require_schema
from penstock.settings import Settings


@dataclass(frozen=True, slots=True)
class Situation:
    """What Postgres and the brokers say of a partition.

    Attributes:
        stand: Postgres' position; None when it knows none of this topic id.
        committed: what Kafka's group committed; None when nothing.
        first: the first offset that the brokers still have.
        end: the offset after the last record.
    """

    stand: Stand | None
    committed: int | None
    first: int
    end: int

    @property
    def diverged(self) -> bool:
        """Whether the partition is halted because its log was replaced."""
        stand = self.stand
        return stand is not None and stand.halted_reason is not None and stand.halt_code is HaltCode.DIVERGED

    def default(self) -> int | None:
        """Where to go on without a word from the operator: never past a record that is there and was not stored."""
        if self.stand is None:
            return (
                self.committed
                if self.committed is not None and self.first <= self.committed <= self.end
                else self.first
            )
        if self.diverged:
            lost = self.stand.diverged_at
            return None if lost is None else min(max(lost, self.first), self.end)
        if self.stand.position < self.first:
            return self.first
        return self.stand.position if self.stand.position <= self.end else None

    def consequences(self, position: int) -> list[str]:
        """What going on from a position may skip or double."""
        if self.stand and self.diverged:
            return self.after_divergence(self.stand, position)
        found = []
        stored = self.stand.position if self.stand else self.first
        if position > stored:
            gone = max(0, min(position, self.first) - stored)
            left = position - stored - gone
            if gone:
                found.append(f"{gone:,} offsets from {stored} are no longer in the topic: those messages are lost")
            if left:
                found.append(f"{left:,} offsets before {position} are skipped: their messages get no answer")
        if self.stand and position < stored:
            found.append(f"offsets {position} to {stored - 1} were stored before: those requests run and answer twice")
        if self.committed is not None and max(position, stored) < self.committed:
            lost = range(max(position, stored), self.committed)
            noted = sum(has(self.stand.answered, each) for each in lost) if self.stand and self.stand.answered else 0
            again = f"offsets {lost.start} to {lost.stop - 1} were committed, but Postgres lost them"
            if noted < len(lost):
                found.append(f"{again}: those answered before answer twice; penstock resume restored leaves them out")
            else:
                found.append(f"{again}: they are known to be answered, and left out")
        return found or ["nothing is skipped and nothing doubled"]

    def after_divergence(self, stand: Stand, position: int) -> list[str]:
        """What going on in a new incarnation may skip or double."""
        later = stand.incarnation + 1
        found = [
            f"incarnation {later} of the partition begins: result ids from offset {position} on say ~{later} behind it"
        ]
        new = self.first if stand.diverged_at is None else max(stand.diverged_at, self.first)
        if position > new:
            found.append(f"offsets {new} to {position - 1} may hold new messages and are skipped: they get no answer")
        if position < new:
            found.append(f"offsets {position} to {new - 1} were taken before: those requests run and answer twice")
        return found


def resume_partition(
    topic: Annotated[str, typer.Argument(help="The request topic.")],
    partition: Annotated[int, typer.Argument(min=0, help="The partition.")],
    at: Annotated[int | None, typer.Option("--at", min=0, help="Offset of the first message to read.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Let a partition that halted for safety go on, after telling what that may skip or double.

    Without `--at` it goes on where Postgres stands, or at the first message that the topic still has. A partition
    whose log was replaced goes on at the first offset that was replaced, and its results get new ids. Replicas take it
    up within a minute.

    For example:

    * `penstock resume partition penstock.requests 3`
    * `penstock resume partition penstock.requests 3 --at 120000 --yes`
    """

    async def main(settings: Settings) -> int:
        if topic not in settings.kafka.request_topics:
            raise ConfigurationError(f"{topic} is none of PENSTOCK_KAFKA_REQUEST_TOPICS")
        async with TopicClient(settings.kafka, "penstock-resume") as client, opened(settings) as database:
            await require_schema(database)
            cluster = await client.describe([topic])
            if topic not in cluster.topics or partition >= cluster.topics[topic].partitions:
                raise ConfigurationError(f"there is no partition {partition} of {topic}")
            store, place = IntakeStore(database, cluster.id), Place(cluster.topics[topic].id, partition)
            situation = await read(settings, client, store, place, topic)
            position = choose(situation, at)
            for line in told(situation, position):
                typer.echo(line)
            if not yes:
                typer.confirm("Go on?", abort=True)
            await store.resume_partition(place, topic, position, situation.committed or 0)
            return position

    position = command(main)
    typer.echo(f"{topic} {partition} goes on at {position} within a minute")


async def read(settings: Settings, client: TopicClient, store: IntakeStore, place: Place, topic: str) -> Situation:
    """Ask Postgres and the brokers."""
    chosen = TopicPartition(topic, place.partition)
    stands = await store.read_positions([place])
    committed = await client.admin.list_consumer_group_offsets(settings.group, partitions=[chosen])
    async with RecordReader(settings.kafka, [topic], from_beginning=False) as reader:
        first, end = (await reader.starts())[chosen], (await reader.ends())[chosen]
    offset = committed[chosen].offset if chosen in committed else -1
    return Situation(stands.get(place), offset if offset >= 0 else None, first, end)


def choose(situation: Situation, at: int | None) -> int:
    """The position to go on from.

    Raises:
        ConfigurationError: there is nothing to resume, or the operator has to say where.
    """
    halted = situation.stand is None or situation.stand.halted_reason is not None
    if at is None and not halted:
        raise ConfigurationError("the partition is not halted; --at moves it all the same")
    position = situation.default() if at is None else at
    if position is None:
        stand = situation.stand.position if situation.stand else 0
        raise ConfigurationError(
            f"Postgres stands at {stand}, the topic holds {situation.first} to {situation.end}: say where with --at"
        )
    if not situation.first <= position <= situation.end:
        raise ConfigurationError(f"--at takes {situation.first} to {situation.end}, which is what the topic holds")
    return position


def told(situation: Situation, position: int) -> list[str]:
    """The situation and its consequences, for a person."""
    stand = situation.stand
    stands = f"at {stand.position}" if stand else "nowhere: it has never seen this topic id"
    reason = f"halted: {stand.halted_reason}" if stand and stand.halted_reason else "not halted in Postgres"
    group = "nothing" if situation.committed is None else str(situation.committed)
    return [
        reason,
        f"Postgres stands {stands}; the group committed {group}; the topic holds {situation.first} to {situation.end}",
        f"going on at {position}:",
        *(f"  - {each}" for each in situation.consequences(position)),
    ]
