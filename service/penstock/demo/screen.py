"""What a person sees: a live picture on a terminal, a line every few seconds elsewhere."""

import asyncio
import sys
import time
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from penstock.core.lane import LaneKey
from penstock.demo.progress import Progress

PIPE_WIDTH = 160
PLAIN_SECONDS = 3.0
FRAMES_PER_SECOND = 5
COLUMNS = ("sealed", "validating", "in_progress", "finalizing", "ended", "published")
SAME = {"creating": "sealed", "completed": "ended", "decided": "ended"}
"""Statuses that pass too fast for a column of their own."""


class Screen:
    """Standard output."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        """A sentence, with the time."""
        self.console.print(f"[dim]{time.monotonic() - self.started:5.1f} s[/]  {escape(text)}", soft_wrap=True)

    def show(self, renderable: RenderableType) -> None:
        """Anything."""
        self.console.print(renderable, soft_wrap=isinstance(renderable, str))

    async def follow(self, progress: Progress) -> None:
        """Show the progress for ever; leaves the last picture when it is cancelled."""
        if self.console.is_terminal:
            with Live(
                get_renderable=lambda: picture(progress), console=self.console, refresh_per_second=FRAMES_PER_SECOND
            ):
                await asyncio.Event().wait()
        while True:
            await asyncio.sleep(PLAIN_SECONDS)
            self.say(line(progress))


def line(progress: Progress) -> str:
    """The progress in one line."""
    statuses: dict[str, int] = {}
    for counts in progress.statuses().values():
        for status, count in counts.items():
            statuses[status] = statuses.get(status, 0) + count
    windows = progress.windows()
    return (
        f"sent {progress.sent:,}/{progress.total:,} | windows {len(windows)} with {sum(windows.values()):,} | "
        f"batches {' '.join(f'{status} {count}' for status, count in statuses.items()) or 'none'} | "
        f"answers {progress.answered:,} ({progress.per_second:,.0f}/s) | queue {progress.queue:,} | "
        f"oldest {progress.oldest_seconds:.1f} s | saved ${progress.saved_usd:.4f}"
        + (f", {progress.unpriced}" if progress.unpriced else "")
    )


def picture(progress: Progress) -> RenderableType:
    """The progress as bars and a table."""
    bars = Table.grid(padding=(0, 1))
    for name, done in (("sent", progress.sent), ("answered", progress.answered)):
        bars.add_row(name, ProgressBar(progress.total, done, width=50), f"{done:,} / {progress.total:,}")
    figures = Text.assemble(
        ("results/s ", "dim"), f"{progress.per_second:,.0f}   ",
        ("queue ", "dim"), f"{progress.queue:,}   ",
        ("oldest ", "dim"), f"{progress.oldest_seconds:.1f} s   ",
        ("dead letters ", "dim"), f"{len(progress.tally.dead_letters)}   ",
        ("saved ", "dim"), (f"${progress.saved_usd:.4f}", "bold green"),
        (f"\n{progress.unpriced}" if progress.unpriced else "", "yellow"),
    )  # fmt: skip
    return Group("", bars, "", lanes(progress), "", figures, "")


def lanes(progress: Progress) -> Table:
    """A row for each lane: how full its window is, and its batches by status."""
    made = Table("lane", "window", box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        made.add_column(column.replace("_", " "), justify="right")
    windows, statuses = progress.windows(), progress.statuses()
    for key in sorted({*windows, *statuses}):
        requests_max = progress.lanes.policy(key).requests_max
        made.add_row(lane_name(key), window(windows.get(key, 0), requests_max), *cells(statuses.get(key, {})))
    return made


def window(requests: int, requests_max: int) -> RenderableType:
    """A window's fill."""
    if not requests:
        return ""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(requests_max, requests, width=16), f"{requests:,}")
    return grid


def cells(counts: dict[str, int]) -> Iterable[str]:
    """Counts in the order of the columns."""
    shown = dict.fromkeys(COLUMNS, 0)
    for status, count in counts.items():
        name = SAME.get(status, status)
        if name in shown:
            shown[name] += count
    return (str(count) if count else "" for count in shown.values())


def lane_name(key: LaneKey) -> str:
    """A lane, for people."""
    return "dead letters" if key.dead else f"{key.model} [dim]{key.endpoint.removeprefix('/v1/')}[/]"
