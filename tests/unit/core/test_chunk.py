import uuid
from dataclasses import dataclass

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.chunk import (
    FORMAT,
    FORMAT_INCARNATIONS,
    Manifest,
    decode_lines,
    decode_manifest,
    encode_lines,
    encode_manifest,
    pack_chunk,
    read_lines,
)
from penstock.core.errors import UnknownFormat
from penstock.core.window import Size

UNKNOWN = FORMAT_INCARNATIONS + 1
TOPIC_ID = uuid.UUID(int=5)
LINES = st.lists(st.binary(max_size=30), min_size=1, max_size=6)


OTHERS = ("lengths", "reasons", "nulls", "incarnations")
"""Columns that are not copied with each request."""


def manifest_of(lines: list[bytes]) -> Manifest:
    manifest = Manifest.empty("cluster", "requests", TOPIC_ID)
    for number, line in enumerate(lines):
        manifest.custom_ids.append(f"id-{number}")
        manifest.partitions.append(2)
        manifest.offsets.append(100 + number)
        manifest.keys.append(None if number % 2 else b"key")
        manifest.headers.append([("x-trace", b"7"), ("none", None)])
        manifest.received.append(1000.5)
        manifest.deadlines.append(2000.0 - number)
        manifest.result_topics.append("results")
        manifest.lengths.append(len(line))
        manifest.tokens.append(3)
        manifest.inputs.append(2)
    return manifest


@given(LINES)
def test_what_is_packed_reads_back(lines: list[bytes]) -> None:
    manifest = manifest_of(lines)
    chunk = pack_chunk(uuid.UUID(int=1), 3, lines, manifest, stored=1200.0)
    assert decode_manifest(chunk.manifest) == manifest
    assert read_lines(chunk.lines, manifest) == lines
    assert decode_lines(chunk.lines) == b"".join(lines)
    count = len(lines)
    assert chunk.size == Size(count, sum(map(len, lines)), 3 * count, 2 * count)
    assert (chunk.attempt, chunk.topic, chunk.deadline) == (3, "requests", 2001.0 - count)
    assert (chunk.received, chunk.stored) == (1000.5, 1200.0)
    assert chunk.stored_bytes == len(chunk.lines) + len(chunk.manifest)


def test_a_chunk_may_hold_nothing_but_an_empty_message() -> None:
    assert read_lines(encode_lines([b""]), manifest_of([b""])) == [b""]


def test_texts_and_bytes_of_any_content_are_kept() -> None:
    manifest = manifest_of([b"\x00\xff\n"])
    manifest.custom_ids[0] = "\x00 \u2028 😀"
    manifest.keys[0] = b"\x00\xff"
    manifest.headers[0] = [("\u0085", b"\xff\x00")]
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_requests_of_several_incarnations_are_kept_apart_in_one_chunk() -> None:
    origin, later = manifest_of([b"a", b"bb"]), manifest_of([b"a", b"bb"])
    later.incarnations = [0, 2]
    copy = Manifest.empty("cluster", "requests", TOPIC_ID)
    for manifest, index in ((origin, 1), (later, 1), (later, 0)):
        copy.copy_from(manifest, index)
        copy.lengths.append(1)
    read = decode_manifest(encode_manifest(copy))
    assert [read.origin(index).incarnation for index in range(3)] == [0, 2, 0]
    assert len({read.result_id(index) for index in range(3)}) == 3
    assert (read.format, origin.format, origin.incarnations) == (FORMAT_INCARNATIONS, FORMAT, [])


def test_a_request_is_copied_with_everything_but_its_length() -> None:
    origin = manifest_of([b"a", b"bb", b"ccc"])
    copy = Manifest.empty("cluster", "requests", TOPIC_ID)
    copy.copy_from(origin, 2)
    copy.lengths.append(9)
    assert copy.result_id(0) == origin.result_id(2) == f"cluster/{TOPIC_ID.hex}/2/102"
    single = manifest_of([b"ccc"])
    for name in Manifest.__struct_fields__:
        if isinstance(value := getattr(copy, name), list) and name not in OTHERS:
            assert value == [getattr(origin, name)[2]]
            assert len(value) == len(getattr(single, name))


@dataclass
class Later:
    """A manifest of a format to come."""

    format: int = FORMAT + 1


@pytest.mark.parametrize(
    "stored",
    [
        [UNKNOWN, *msgspec.structs.astuple(manifest_of([b"a"]))[1:]],
        [UNKNOWN],
        [UNKNOWN, {"columns": []}],
        Later(),
        "later",
    ],
    ids=["other number", "fewer columns", "other columns", "by name", "a text"],
)
def test_a_manifest_of_another_format_is_left_alone(stored: object) -> None:
    with pytest.raises(UnknownFormat):
        decode_manifest(zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(stored)))


def test_what_an_older_version_does_not_know_of_a_manifest_does_not_disturb_it() -> None:
    columns = list(msgspec.structs.astuple(manifest_of([b"a"])))
    newer = decode_manifest(zstandard.ZstdCompressor().compress(msgspec.msgpack.encode([*columns, ["of the future"]])))
    older = decode_manifest(zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(columns[:-1])))
    assert newer == older == manifest_of([b"a"])
