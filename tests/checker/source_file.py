"""Reading the files that a run leaves: the simulator's journal, what a live reader saw, logs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

BLOCK_BYTES = 1 << 20


class Entry(msgspec.Struct):
    """A line of the simulator's journal."""

    event: str
    url: str = ""
    body_sha256: str = ""
    status_code: int = 0


class Execution(NamedTuple):
    """A request that was executed."""

    url: str
    body_sha256: str
    status_code: int


ENTRY = msgspec.json.Decoder(Entry)
RESULT_ID = msgspec.json.Decoder(str)


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file; not the last one when it has no end yet."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def executions(journal: Path) -> Iterator[Execution]:
    """What the simulator's journal tells of executions."""
    for line in whole_lines(journal):
        entry = ENTRY.decode(line)
        if entry.event == "request.executed":
            yield Execution(entry.url, entry.body_sha256, entry.status_code)


def seen_ids(seen: Path) -> Iterator[str]:
    """The result ids that a live reader wrote, a JSON text a line."""
    yield from map(RESULT_ID.decode, whole_lines(seen))


def canaries_in(path: Path, canaries: Sequence[str]) -> list[int]:
    """The numbers of the canaries that stand in a file, which may be larger than memory."""
    wanted = dict(enumerate(canary.encode() for canary in canaries))
    overlap = max(map(len, wanted.values()), default=1) - 1
    found: set[int] = set()
    tail = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            window = tail + block
            found |= {number for number, text in wanted.items() if text in window}
            tail = window[-overlap:] if overlap else b""
    return sorted(found)
