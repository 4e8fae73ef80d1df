"""Chunks: the requests of one lane from one gathering of polls, stored together.

A chunk is two byte strings: its *lines* (for requests, JSONL lines with our wire ids; for rejected messages, the
original bytes), and its *manifest*, what must be known of each request beside its line. Both are zstd frames; the
manifest is columns in msgpack, so that reading one column or searching for one id is cheap.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import zstandard

from penstock.core.errors import UnknownFormat
from penstock.core.identity import Origin, result_id
from penstock.core.turn import USUAL, Turn
from penstock.core.window import Size

FORMAT = 1
FORMAT_INCARNATIONS = 2
"""Of a manifest that holds requests of a later incarnation of their partition; other manifests stay at `FORMAT`."""
LEVEL = 1  # zstd: prompts repeat, and a higher level costs more CPU than it saves bytes

RECEIVED_SECONDS_MAX = 7 * 86400.0
"""The longest that a message counts as having waited in Kafka; a timestamp before that is taken as wrong."""

Headers = Sequence[tuple[str, bytes | None]]


def headers_bytes(headers: Headers) -> int:
    """Names and values of headers together."""
    return sum(len(name) + len(value or b"") for name, value in headers) if headers else 0


class Manifest(msgspec.Struct, array_like=True):
    """Columns over the requests of a chunk; all of one topic of one cluster.

    ``deadlines`` are Unix seconds by the database's clock, ``received`` by Kafka's (`received_at`). ``lengths`` are
    bytes of each line in the chunk's lines, its line feed included. ``reasons`` holds (code, reason) for rejected
    messages only. ``nulls`` are the indexes of those that had no value at all, which an older version reads as empty.
    ``incarnations`` is empty while all are 0. A manifest with others is of format 2: an older version refuses it, and
    would name results wrongly.
    """

    format: int
    cluster_id: str
    topic: str
    topic_id: bytes
    custom_ids: list[str]
    partitions: list[int]
    offsets: list[int]
    keys: list[bytes | None]
    headers: list[list[tuple[str, bytes | None]]]
    received: list[float]
    deadlines: list[float]
    result_topics: list[str]
    lengths: list[int]
    tokens: list[int]
    inputs: list[int]
    reasons: list[tuple[str, str]]
    nulls: list[int] = []
    incarnations: list[int] = []

    @classmethod
    def empty(cls, cluster_id: str, topic: str, topic_id: uuid.UUID) -> Self:
        """A manifest without requests yet."""
        return cls(FORMAT, cluster_id, topic, topic_id.bytes, [], [], [], [], [], [], [], [], [], [], [], [])

    @property
    def requests(self) -> int:
        """How many requests the chunk holds."""
        return len(self.lengths)

    def origin(self, index: int) -> Origin:
        """The message that one request was read from."""
        incarnation = self.incarnations[index] if self.incarnations else 0
        return Origin(self.topic_id, self.partitions[index], incarnation, self.offsets[index])

    def note_incarnation(self, incarnation: int) -> None:
        """Append the incarnation of the request whose partition was appended last."""
        if incarnation and not self.incarnations:
            self.format = FORMAT_INCARNATIONS
            self.incarnations = [0] * (len(self.partitions) - 1)
        if self.incarnations or incarnation:
            self.incarnations.append(incarnation)

    def result_id(self, index: int) -> str:
        """The deterministic id of the result of one request."""
        return result_id(self.cluster_id, self.origin(index))

    def beside_bytes(self, index: int) -> int:
        """What one request carries beside its line: its key and its headers."""
        return len(self.keys[index] or b"") + headers_bytes(self.headers[index])

    def copy_from(self, other: "Manifest", index: int) -> None:
        """Append one request of another manifest of the same topic, all but the length of its line."""
        self.custom_ids.append(other.custom_ids[index])
        self.partitions.append(other.partitions[index])
        self.note_incarnation(other.origin(index).incarnation)
        self.offsets.append(other.offsets[index])
        self.keys.append(other.keys[index])
        self.headers.append(other.headers[index])
        self.received.append(other.received[index])
        self.deadlines.append(other.deadlines[index])
        self.result_topics.append(other.result_topics[index])
        self.tokens.append(other.tokens[index])
        self.inputs.append(other.inputs[index])


MANIFEST = msgspec.msgpack.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as a zstd frame."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(msgspec.msgpack.encode(manifest))


def decode_manifest(stored: bytes) -> Manifest:
    """Read a manifest back.

    Raises:
        UnknownFormat: written by a version with another format.
    """
    packed = zstandard.ZstdDecompressor().decompress(stored)
    try:
        manifest = MANIFEST.decode(packed)
    except msgspec.ValidationError as error:
        raise UnknownFormat("manifest", error) from error
    if manifest.format not in (FORMAT, FORMAT_INCARNATIONS):
        raise UnknownFormat("manifest", f"format {manifest.format}; this version knows {FORMAT_INCARNATIONS}")
    return manifest


def encode_lines(lines: Iterable[bytes]) -> bytes:
    """Lines as one zstd frame."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(b"".join(lines))


def decode_lines(stored: bytes) -> bytes:
    """The concatenated lines of a chunk."""
    return zstandard.ZstdDecompressor().decompress(stored)


def read_lines(stored: bytes, manifest: Manifest) -> list[bytes]:
    """Each request's line of a chunk, cut by the manifest's lengths; CPU work: call it off the loop."""
    return list(each_line(decode_lines(stored), manifest.lengths))


def each_line(lines: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    """Cut concatenated lines by their lengths."""
    start = 0
    for length in lengths:
        yield lines[start : start + length]
        start += length


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk ready to be stored.

    ``attempt`` counts failures by the requests' own fault, ``tries`` tries of any kind. ``received``, ``stored`` and
    ``deadline`` are the earliest of its requests, in Unix seconds.
    """

    id: uuid.UUID
    topic: str
    turn: Turn
    attempt: int
    tries: int
    size: Size
    received: float
    stored: float
    """When its requests were stored for the first time: sending them again does not change it."""
    deadline: float
    lines: bytes
    manifest: bytes
    unreadable: int = 0
    """How often the requests' results could not be read."""

    @property
    def stored_bytes(self) -> int:
        """What it takes in Postgres."""
        return len(self.lines) + len(self.manifest)


def received_at(timestamp: float, stored: float) -> float:
    """When a message was written, in Unix seconds: its timestamp, within the `RECEIVED_SECONDS_MAX` before storing.

    Producers may set any timestamp: 0, the year 292278994, or none at all (-1).
    """
    return min(max(timestamp, stored - RECEIVED_SECONDS_MAX), stored)


def pack_chunk(
    chunk_id: uuid.UUID,
    attempt: int,
    lines: Sequence[bytes],
    manifest: Manifest,
    *,
    stored: float,
    tries: int = 0,
    turn: Turn = USUAL,
    unreadable: int = 0,
) -> NewChunk:
    """Compress lines and manifest into a chunk; CPU work of about 5 µs per KB, so call it off the loop."""
    return NewChunk(
        id=chunk_id,
        topic=manifest.topic,
        turn=turn,
        attempt=attempt,
        tries=tries,
        size=Size(manifest.requests, sum(manifest.lengths), sum(manifest.tokens), sum(manifest.inputs)),
        received=received_at(min(manifest.received), stored),
        stored=stored,
        deadline=min(manifest.deadlines),
        lines=encode_lines(lines),
        manifest=encode_manifest(manifest),
        unreadable=unreadable,
    )
