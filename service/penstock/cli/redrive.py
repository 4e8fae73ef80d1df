"""`penstock redrive`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, print_json
from penstock.core.errors import ConfigurationError
from penstock.core.reasons import REASONS
from penstock.core.redrive import Choice, Letter, read_letter, request_headers
from penstock.kafka.record_reader import RecordReader
from penstock.kafka.redrive_search import ends_of, is_committed
from penstock.kafka.result_producer import Outgoing, ResultProducer
from penstock.kafka.topics import TopicClient
from penstock.postgres.database import opened
from penstock.postgres.migrate import require_schema
from penstock.postgres.redrive_store import RedriveStore
from penstock.settings import Settings

POLL_SECONDS = 0.5
LETTERS_MAX = 500
BYTES_MAX = 8 * 1024 * 1024
"""A transaction holds so many dead letters, or about so many bytes."""
TRANSACTION_SECONDS = 60.0
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]

Moment = Annotated[datetime | None, typer.Option(formats=TIMES, help="A time in UTC, that of the dead letter.")]


@dataclass(slots=True)
class Counts:
    """What became of the dead letters that were meant."""

    sent: int = 0
    sent_before: int = 0
    cut: int = 0
    elsewhere: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Of those sent."""


def redrive(
    reason: Annotated[list[str] | None, typer.Option(help="Only those with this code; repeatable.")] = None,
    since: Moment = None,
    until: Moment = None,
    topic: Annotated[list[str] | None, typer.Option(help="Only those of this request topic; repeatable.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    to: Annotated[str, typer.Option(help="The request topic that takes them, instead of their own.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send dead letters again, as they were: value, key and headers, to the request topic that they came from.

    Each is sent once, however often this is called, interrupted or called twice at a time. The request and what
    answers it carry the header `penstock-redriven-from`: the topic, partition and offset of the message at first.
    Letters that are not whole (`penstock.truncated…`) are left alone.

    For example:

    * `penstock redrive --reason lane_limit --dry-run`
    * `penstock redrive --reason model_not_allowed --since 2026-11-20T03:00`
    * `penstock redrive --all --until 2026-11-20 --output json`
    """
    choice = Choice(frozenset(reason or ()), frozenset(topic or ()), utc(since), utc(until))
    if unknown := sorted(choice.codes - REASONS.keys()):
        raise typer.BadParameter(f"{unknown[0]} is no code; see docs/reference/dead-letters.md", param_hint="--reason")
    if choice == Choice() and not every:
        raise typer.BadParameter("say which: --reason, --since, --until, --topic, or --all")

    async def main(settings: Settings) -> Counts:
        async with TopicClient(settings.kafka, "penstock-redrive") as client, opened(settings) as database:
            await require_schema(database)
            dead = settings.kafka.dead_letter_topic
            found = (await client.describe([dead])).topics
            if dead not in found:
                raise ConfigurationError(f"there is no topic {dead}")
            wanted = frozenset([to] if to else settings.kafka.request_topics)
            if to and to not in settings.kafka.request_topics:
                raise ConfigurationError(f"{to} is none of PENSTOCK_KAFKA_REQUEST_TOPICS")
            run = Redrive(settings, RedriveStore(database), found[dead].id, choice, to, wanted, dry_run=dry_run)
            return await run.run()

    counts = command(main)
    if output is Output.JSON:
        print_json(counts)
        return
    typer.echo(f"{counts.sent:,} dead letters {'would be sent' if dry_run else 'were sent'} again")
    for code, count in sorted(counts.reasons.items()):
        typer.echo(f"  {code}: {count:,}")
    for count, text in (
        (counts.sent_before, "were sent before"),
        (counts.cut, "are not whole, and stay"),
        (counts.elsewhere, "came from a topic that is none of PENSTOCK_KAFKA_REQUEST_TOPICS, and stay (see --to)"),
    ):
        if count:
            typer.echo(f"{count:,} {text}")


def utc(moment: datetime | None) -> datetime | None:
    """A time that was given without its zone."""
    return moment.replace(tzinfo=UTC) if moment else None


@dataclass(slots=True)
class Redrive:
    """One pass over the dead-letter topic, to where it ends now.

    A transaction is announced in Postgres, then sent, then settled. What is found unsettled, after its producer is
    fenced, is looked up in the request topics: it is there, or it never will be.
    """

    settings: Settings
    store: RedriveStore
    topic_id: UUID
    choice: Choice
    to: str
    wanted: frozenset[str]
    dry_run: bool
    counts: Counts = field(default_factory=Counts)
    done: dict[int, set[int]] = field(default_factory=dict)
    waiting: dict[int, list[tuple[Any, Letter]]] = field(default_factory=dict)
    waiting_bytes: Counter[int] = field(default_factory=Counter)

    async def run(self) -> Counts:
        """Send what is meant and was not sent before."""
        name = f"penstock-{self.settings.deployment}-redrive"
        producer = ResultProducer(self.settings.kafka, name, TRANSACTION_SECONDS)
        try:
            if not self.dry_run:
                await producer.start()
                await self.settle_all()
            dead = [self.settings.kafka.dead_letter_topic]
            async with RecordReader(self.settings.kafka, dead, from_beginning=True) as reader:
                for place, first in (await reader.starts()).items():
                    await self.store.forget(self.topic_id, place.partition, first)
                    self.done[place.partition] = await self.store.done(self.topic_id, place.partition)
                ends = await reader.ends()
                while not await reader.has_passed(ends):
                    for record in await reader.poll(POLL_SECONDS):
                        if record.offset < ends[reader.place_of(record)]:
                            await self.take(producer, record)
            for partition in self.waiting:
                await self.send(producer, partition)
        finally:
            await producer.stop()
        return self.counts

    async def settle_all(self) -> None:
        """Find out what became of transactions whose redrive was interrupted."""
        for each in await self.store.unsettled():
            sent = await is_committed(self.settings.kafka, each.ends, each.id.hex)
            await self.store.settle(each.id, self.target, sent=sent)

    @property
    def target(self) -> str:
        """What the audit log names."""
        return f"topic {self.settings.kafka.dead_letter_topic}"

    async def take(self, producer: ResultProducer, record: Any) -> None:
        """Look at one record, and send when enough wait."""
        letter = read_letter(record.headers)
        if letter is None or not self.choice.takes(letter, datetime.fromtimestamp(record.timestamp / 1000, UTC)):
            return
        if record.offset in self.done[record.partition]:
            self.counts.sent_before += 1
        elif letter.cut:
            self.counts.cut += 1
        elif not self.to and letter.topic not in self.wanted:
            self.counts.elsewhere += 1
        else:
            waiting = self.waiting.setdefault(record.partition, [])
            waiting.append((record, letter))
            self.waiting_bytes[record.partition] += len(record.value or b"")
            if len(waiting) == LETTERS_MAX or self.waiting_bytes[record.partition] >= BYTES_MAX:
                await self.send(producer, record.partition)

    async def send(self, producer: ResultProducer, partition: int) -> None:
        """Send what waits of a partition, in one transaction."""
        letters, self.waiting[partition] = self.waiting[partition], []
        self.waiting_bytes[partition] = 0
        for _, letter in letters:
            self.counts.sent += 1
            self.counts.reasons[letter.code] = self.counts.reasons.get(letter.code, 0) + 1
        if self.dry_run or not letters:
            return
        topics = sorted({self.to or letter.topic for _, letter in letters})
        ends = await ends_of(self.settings.kafka, topics)
        offsets = [record.offset for record, _ in letters]
        run = await self.store.announce(self.topic_id, partition, offsets, ends)
        for topic in topics:
            await producer.partitions_of(topic)
        await producer.begin()
        for topic, number, builder in producer.append_all(
            self.outgoing(letters, run.hex), fallback=partition, timestamp_ms=int(datetime.now(UTC).timestamp() * 1000)
        ):
            await producer.send(topic, number, builder)
        await producer.flush()
        await producer.commit()
        await self.store.settle(run, self.target, sent=True)

    def outgoing(self, letters: Sequence[tuple[Any, Letter]], run: str) -> list[Outgoing]:
        """The requests that dead letters become."""
        return [
            (self.to or letter.topic, record.key, record.value, request_headers(letter, run), None)
            for record, letter in letters
        ]
