"""What commands print: text for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table


class Output(StrEnum):
    """For whom."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Text for people, JSON for programs.")]

MINUTE = 60
HOUR = 3600
DAY = 86400


def console() -> Console:
    """Standard output; wide when it is no terminal, so that nothing is cut off in a pipe."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """A value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=indent, default=plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def plain(value: object) -> object:
    """What JSON has no type for."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise TypeError(f"{type(value).__name__} cannot be shown as JSON")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> Table:
    """A table; the columns named in ``right`` hold numbers."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def age(seconds: float | None) -> str:
    """A duration in the two largest units that matter."""
    if seconds is None:
        return ""
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{int(seconds // MINUTE)} min {int(seconds % MINUTE)} s"
    if seconds < DAY:
        return f"{int(seconds // HOUR)} h {int(seconds % HOUR // MINUTE)} min"
    return f"{int(seconds // DAY)} d {int(seconds % DAY // HOUR)} h"


def since(moment: datetime | None) -> str:
    """How long ago."""
    return "" if moment is None else age(max(0.0, (datetime.now(UTC) - moment).total_seconds()))


def size(count: float) -> str:
    """A number of bytes."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - decimal units, as disks and brokers count
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def money(usd: float | None) -> str:
    """An amount in US dollars, small ones not rounded away."""
    if usd is None:
        return ""
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}"
