"""Another try: requests of finished batches packed into new chunks of their lane, with new wire ids."""

import math
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from penstock.core.chunk import Manifest, NewChunk, pack_chunk
from penstock.core.identity import new_id
from penstock.core.turn import Turn

CHUNK_BYTES = 8 * 1024 * 1024
CHUNK_REQUESTS = 5000
OPEN_BYTES = 16 * 1024 * 1024
"""All chunks together that are being collected from one batch: with many tenants they are many."""
ID_START = len(b'{"custom_id":"')


class Try(NamedTuple):
    """A request that is sent again."""

    place: int
    """Its index in its chunk."""
    attempt: int
    """Its failures by its own fault so far."""
    unreadable: int = 0
    """How often its result came back and could not be read."""


class Kept(NamedTuple):
    """What the requests of a chunk keep when they are sent again."""

    tries: int
    """Of any kind, this one included."""
    turn: Turn
    stored: float
    """When the earliest of them was stored for the first time, in Unix seconds."""


class Requeue:
    """Collects requests of one topic and one history until a chunk is full.

    Args:
        manifest: of any chunk of the topic; names the topic and cluster.
        attempt: failures by their own fault so far.
        tries: of any kind so far.
        turn: what they had, and keep.
        unreadable: how often their results could not be read.
    """

    def __init__(self, manifest: Manifest, attempt: int, tries: int, turn: Turn, unreadable: int = 0) -> None:
        self.unreadable = unreadable
        self.attempt = attempt
        self.tries = tries
        self.turn = turn
        self.origin = manifest
        self.clear()

    def clear(self) -> None:
        """Begin a new chunk."""
        topic_id = uuid.UUID(bytes=self.origin.topic_id)
        self.chunk_id = new_id()
        self.manifest = Manifest.empty(self.origin.cluster_id, self.origin.topic, topic_id)
        self.lines: list[bytes] = []
        self.size_bytes = 0
        self.stored = math.inf

    def add(self, manifest: Manifest, lines: Sequence[bytes], index: int, stored: float) -> bool:
        """Take one request, stored at this time first; returns whether the chunk is full and should be packed."""
        line = self.renamed(lines[index])
        self.manifest.copy_from(manifest, index)
        self.manifest.lengths.append(len(line))
        self.lines.append(line)
        self.size_bytes += len(line) + manifest.beside_bytes(index)
        self.stored = min(self.stored, stored)
        return self.size_bytes >= CHUNK_BYTES or len(self.lines) >= CHUNK_REQUESTS

    def renamed(self, line: bytes) -> bytes:
        """A stored line under its new wire id; the rest byte for byte."""
        end = line.index(b'"', ID_START)
        return b"%b%b-%d%b" % (line[:ID_START], self.chunk_id.hex.encode(), len(self.lines), line[end:])

    def pack(self) -> NewChunk:
        """What is collected, as a chunk; begins a new one. CPU work: call it off the loop."""
        chunk = pack_chunk(
            self.chunk_id,
            self.attempt,
            self.lines,
            self.manifest,
            stored=self.stored,
            tries=self.tries,
            turn=self.turn,
            unreadable=self.unreadable,
        )
        self.clear()
        return chunk


class Requeues:
    """The chunks that are being collected from one batch, by topic and history."""

    def __init__(self) -> None:
        self.open: dict[tuple[object, ...], Requeue] = {}

    def of(self, manifest: Manifest, attempt: int, tries: int, turn: Turn, unreadable: int = 0) -> Requeue:
        """Where requests of this topic and history go."""
        history = manifest.topic_id, attempt, tries, turn, unreadable
        found = self.open.get(history)
        if found is None:
            found = self.open[history] = Requeue(manifest, attempt, tries, turn, unreadable)
        return found

    def take(self, manifest: Manifest, lines: Sequence[bytes], again: Iterable[Try], kept: Kept) -> list[NewChunk]:
        """Take requests of one chunk, and pack what is full; CPU work of about 5 µs each: call it off the loop.

        Args:
            manifest: of the chunk.
            lines: of the chunk, all of them.
            again: the requests.
            kept: what they have in common.
        """
        packed = []
        for index, attempt, unreadable in again:
            requeue = self.of(manifest, attempt, kept.tries, kept.turn, unreadable)
            if requeue.add(manifest, lines, index, kept.stored):
                packed.append(requeue.pack())
        return packed + [each.pack() for each in self.over()]

    def rest(self) -> list[NewChunk]:
        """Pack all that is left; CPU work, as `take`."""
        return [each.pack() for each in self.open.values() if each.lines]

    def over(self) -> list[Requeue]:
        """Those to be packed now, largest first, so that all together take no more memory than one batch may."""
        size_bytes = sum(each.size_bytes for each in self.open.values())
        found = []
        for each in sorted(self.open.values(), key=lambda each: each.size_bytes, reverse=True):
            if size_bytes <= OPEN_BYTES:
                break
            size_bytes -= each.size_bytes
            found.append(each)
        return found
