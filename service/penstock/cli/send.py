"""`penstock send`."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, print_json
from penstock.kafka.request_producer import RequestProducer
from penstock.settings import Settings

REFRESH_LINES = 1000
RATE = TextColumn("{task.fields[rate]:,.0f}/s")


class KeyFrom(StrEnum):
    """What becomes the key of a message."""

    CUSTOM_ID = "custom_id"
    NONE = "none"


@dataclass(slots=True)
class Counts:
    """What was sent."""

    sent: int = 0
    blank: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Messages a second."""
        return self.sent / self.seconds if self.seconds else 0.0


def send(
    file: Annotated[str, typer.Argument(help="A Batch API file, one request a line; `-` is standard input.")],
    topic: Annotated[str, typer.Option(help="The request topic; by default the first one configured.")] = "",
    key_from: Annotated[KeyFrom, typer.Option(help="What becomes the message's key.")] = KeyFrom.CUSTOM_ID,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header of every message; repeatable.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send a Batch API file to a request topic, each line unchanged as one message; blank lines are left out.

    A request's result comes back with its key, and with headers that begin with `x-` (and `tenant`, `traceparent`,
    …). Lines are not checked here: what cannot be a request comes back as a dead letter with the reason.

    For example:

    * `penstock send requests.jsonl`
    * `zstdcat requests.jsonl.zst | penstock send - --key-from none`
    * `penstock send requests.jsonl --header tenant=north --header penstock-deadline-seconds=7200`
    """
    headers = [parse_header(each) for each in header or []]

    async def main(settings: Settings) -> Counts:
        chosen = topic or settings.kafka.request_topics[0]
        keyed = key_from is KeyFrom.CUSTOM_ID
        async with RequestProducer(settings.kafka, chosen, keyed=keyed, headers=headers) as producer:
            with opened(file) as (stream, total), bar(total) as progress:
                return await send_lines(producer, stream, progress)

    counts = command(main)
    if output is Output.JSON:
        print_json({"sent": counts.sent, "blank": counts.blank, "bytes": counts.bytes, "seconds": counts.seconds})
    else:
        blank = f", {counts.blank} blank lines left out" if counts.blank else ""
        typer.echo(f"sent {counts.sent:,} messages in {counts.seconds:.1f} s, {counts.per_second:,.0f}/s{blank}")


def parse_header(text: str) -> tuple[str, bytes]:
    """A header of `--header NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint="--header")
    return name, value.encode()


@contextmanager
def opened(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The lines and how many bytes they are together, if that is known."""
    if file == "-":
        yield sys.stdin.buffer, None
        return
    with Path(file).open("rb") as stream:
        yield stream, Path(file).stat().st_size


@contextmanager
def bar(total: int | None) -> Iterator[Progress]:
    """A progress bar on standard error, when that is a terminal."""
    columns = [TextColumn("sending"), BarColumn(), DownloadColumn(), RATE, TimeRemainingColumn()]
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        progress.add_task("sending", total=total, rate=0.0)
        yield progress


async def send_lines(producer: RequestProducer, stream: BinaryIO, progress: Progress) -> Counts:
    """Send every line."""
    counts = Counts()
    started = time.monotonic()
    for line in stream:
        message = line.rstrip(b"\r\n")
        counts.bytes += len(line)
        if not message.strip():
            counts.blank += 1
            continue
        await producer.send(message)
        counts.sent += 1
        if counts.sent % REFRESH_LINES == 0:
            counts.seconds = time.monotonic() - started
            progress.update(progress.task_ids[0], completed=counts.bytes, rate=counts.per_second)
    await producer.flush()
    counts.seconds = time.monotonic() - started
    return counts
