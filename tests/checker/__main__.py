"""`python -m tests.checker`: judge a run; exit status 0 only when nothing is wrong, 1 when something is."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

from tests.checker.expectation import Message, Output
from tests.checker.judge import Judge
from tests.checker.reader import Stuck, ends_of, read_to
from tests.checker.report import Report
from tests.checker.source_file import canaries_in, executions, seen_ids
from tests.checker.topic_source import Topic, describe_topics


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""

    def names(text: str) -> list[str]:
        return list(filter(None, text.split(",")))

    parser = argparse.ArgumentParser(prog="python -m tests.checker", description=__doc__)
    add = parser.add_argument
    add("--bootstrap", required=True, help="brokers as host:port")
    add("--requests", required=True, type=names, metavar="TOPIC[,TOPIC]", help="request topics")
    add("--results", required=True, type=names, metavar="TOPIC[,TOPIC]", help="result topics")
    add("--dead-letters", required=True, metavar="TOPIC", help="the dead-letter topic")
    add("--ledger", metavar="TOPIC", help="the publisher's ledger: no transaction may be open there")
    add("--journal", required=True, type=Path, action="append", metavar="FILE", help="a simulator's journal")
    add("--seen", type=Path, metavar="FILE", help="the result ids a live reader saw: a JSON text a line")
    add("--extra-executions-allowed", type=int, default=0, metavar="N", help="paid more than once, at most")
    add("--canary", action="append", default=[], metavar="TEXT", help="a text that nothing may tell; repeatable")
    add("--search", action="append", default=[], type=Path, metavar="FILE", help="where to look for canaries")
    add("--embedding-dimensions", type=int, default=8, metavar="N", help="the simulator's setting")
    add("--patience-seconds", type=float, default=30, metavar="S", help="wait for an open transaction to end")
    add("--output", choices=("text", "json"), default="text", help="how the report is written")
    return parser.parse_args(given)


async def check(options: argparse.Namespace) -> Report:
    """Read everything and judge it."""
    judge = Judge(embedding_dimensions=options.embedding_dimensions, canaries=options.canary)
    outputs = [*options.results, options.dead_letters]
    names = [*options.requests, *outputs, *filter(None, [options.ledger])]
    topics = await describe_topics(options.bootstrap, names)
    for name in options.requests:
        await read_messages(options, name, topics[name], judge)
    for name in outputs:
        await read_outputs(options, name, topics[name], judge)
    if options.ledger:
        await drain_ledger(options, options.ledger, topics[options.ledger], judge)
    for execution in (each for journal in options.journal for each in executions(journal)):
        judge.executed(*execution)
    for result_id in seen_ids(options.seen) if options.seen else ():
        judge.saw(result_id)
    for path in options.search:
        for number in canaries_in(path, options.canary):
            judge.told(f"canary {number} in {path.name}")
    return judge.verdict(options.extra_executions_allowed)


async def read_messages(options: argparse.Namespace, name: str, topic: Topic, judge: Judge) -> None:
    """Feed the committed records of a request topic."""
    ends = await ends_of(options.bootstrap, name, topic.partitions, "read_committed")
    async for record in read_to(options.bootstrap, ends, "read_committed", options.patience_seconds):
        judge.message(Message(topic.source, record.partition, record.offset, record.key, record.value))


async def read_outputs(options: argparse.Namespace, name: str, topic: Topic, judge: Judge) -> None:
    """Feed a result or dead-letter topic at both isolation levels, up to the same ends."""
    ends = await ends_of(options.bootstrap, name, topic.partitions, "read_uncommitted")
    dead = name == options.dead_letters
    committed = {partition: OffsetSet() for partition in ends}
    try:
        async for record in read_to(options.bootstrap, ends, "read_committed", options.patience_seconds):
            committed[TopicPartition(name, record.partition)].add(record.offset)
            judge.committed(output_of(record, dead))
    except Stuck as stuck:
        tell_hanging(stuck, judge)
    async for record in read_to(options.bootstrap, ends, "read_uncommitted", options.patience_seconds):
        if record.offset not in committed[TopicPartition(name, record.partition)]:
            judge.aborted(output_of(record, dead))


async def drain_ledger(options: argparse.Namespace, name: str, topic: Topic, judge: Judge) -> None:
    """See that a read_committed reader reaches the ledger's end."""
    ends = await ends_of(options.bootstrap, name, topic.partitions, "read_uncommitted")
    try:
        async for _ in read_to(options.bootstrap, ends, "read_committed", options.patience_seconds):
            pass
    except Stuck as stuck:
        tell_hanging(stuck, judge)


def tell_hanging(stuck: Stuck, judge: Judge) -> None:
    """Tell the judge of partitions that a read_committed reader cannot finish."""
    for partition in stuck.partitions:
        judge.hangs(f"{partition.topic}/{partition.partition}")


def output_of(record: Any, dead: bool) -> Output:
    """A Kafka record as the judge takes it."""
    return Output(dead, record.topic, record.partition, record.offset, record.key, record.value, record.headers)


class OffsetSet:
    """Offsets of one partition, a bit each."""

    def __init__(self) -> None:
        self.bits = bytearray()

    def add(self, offset: int) -> None:
        """Put one in."""
        self.bits.extend(bytes(max(0, offset // 8 + 1 - len(self.bits))))
        self.bits[offset // 8] |= 1 << offset % 8

    def __contains__(self, offset: int) -> bool:
        return offset // 8 < len(self.bits) and bool(self.bits[offset // 8] >> offset % 8 & 1)


def main() -> int:
    """Judge, report, and say by the exit status whether the run was clean."""
    options = arguments()
    report = asyncio.run(check(options))
    print(report.as_json() if options.output == "json" else report.as_text())  # noqa: T201 - the program's answer
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
