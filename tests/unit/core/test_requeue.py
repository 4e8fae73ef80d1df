import json
import uuid

import pytest

from penstock.core import requeue
from penstock.core.chunk import Manifest, NewChunk, decode_manifest, read_lines
from penstock.core.gathering import wire_lines
from penstock.core.identity import WireId, parse_wire_id
from penstock.core.requeue import Kept, Requeue, Requeues, Try
from penstock.core.turn import Priority, Turn
from tests.unit.core.test_chunk import manifest_of

TURN = Turn(Priority.LOW, 7)
OLD = uuid.UUID(int=1)
BODIES = [
    b'{"model":"m","input":"\\"custom_id\\":\\"x\\""}',
    b'{"n":123456789012345678901234567890}',
    b'{"t":"\\ud83d"}',
]


def stored() -> tuple[Manifest, list[bytes]]:
    lines = wire_lines(OLD, "/v1/responses", BODIES)
    return manifest_of(lines), lines


def unpacked(chunk: NewChunk) -> tuple[Manifest, list[bytes]]:
    manifest = decode_manifest(chunk.manifest)
    return manifest, read_lines(chunk.lines, manifest)


def test_a_request_goes_again_under_a_new_wire_id_and_is_otherwise_untouched() -> None:
    manifest, lines = stored()
    again = Requeue(manifest, 2, 3, TURN)
    assert not again.add(manifest, lines, 2, 50.0)
    assert not again.add(manifest, lines, 0, 40.0)
    chunk = again.pack()
    renamed, new_lines = unpacked(chunk)
    assert (chunk.attempt, chunk.tries, chunk.turn) == (2, 3, TURN)
    assert chunk.stored == 40.0
    assert chunk.id != OLD
    assert [parse_wire_id(json.loads(line)["custom_id"]) for line in new_lines] == [
        WireId(chunk.id, 0),
        WireId(chunk.id, 1),
    ]
    for line, body in zip(new_lines, [BODIES[2], BODIES[0]], strict=True):
        assert line.endswith(b',"method":"POST","url":"/v1/responses","body":%b}\n' % body)
    assert renamed.custom_ids == ["id-2", "id-0"]
    assert [renamed.result_id(index) for index in (0, 1)] == [manifest.result_id(2), manifest.result_id(0)]
    assert renamed.lengths == [len(line) for line in new_lines]


def test_each_chunk_begins_anew() -> None:
    manifest, lines = stored()
    again = Requeue(manifest, 0, 1, TURN)
    chunks = []
    for _ in range(2):
        again.add(manifest, lines, 1, 60.0)
        chunks.append(again.pack())
    assert len({OLD, *(chunk.id for chunk in chunks)}) == 3
    assert [chunk.size.requests for chunk in chunks] == [1, 1]


@pytest.mark.parametrize(("limit", "value"), [("CHUNK_REQUESTS", 2), ("CHUNK_BYTES", 250)])
def test_a_full_chunk_says_so(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(requeue, limit, value)
    manifest, lines = stored()
    again = Requeue(manifest, 0, 1, TURN)
    assert [again.add(manifest, lines, place, 0.0) for place in (0, 1)] == [False, True]


def test_all_that_is_collected_together_is_bounded_and_the_largest_is_packed_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest, lines = stored()
    monkeypatch.setattr(requeue, "OPEN_BYTES", 2 * len(lines[0]) + 50)
    requeues = Requeues()
    for tries, count in ((1, 1), (2, 3), (3, 1)):
        for _ in range(count):
            requeues.of(manifest, 0, tries, TURN).add(manifest, lines, 0, 0.0)
    assert [each.tries for each in requeues.over()] == [2]
    assert requeues.over()[0].pack().size.requests == 3
    assert requeues.over() == []


def test_all_that_is_taken_is_packed_once_by_its_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requeue, "CHUNK_REQUESTS", 2)
    manifest, lines = stored()
    requeues = Requeues()
    (full,) = requeues.take(manifest, lines, [Try(0, 0), Try(1, 1), Try(2, 0)], Kept(3, TURN, 50.0))
    assert (full.attempt, full.tries, unpacked(full)[0].custom_ids) == (0, 3, ["id-0", "id-2"])
    (left,) = requeues.rest()
    assert (left.attempt, left.tries, unpacked(left)[0].custom_ids) == (1, 3, ["id-1"])
    assert requeues.rest() == []
