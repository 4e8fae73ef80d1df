import json
import tomllib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from penstock.core.chunk import Manifest, NewChunk, decode_manifest, read_lines
from penstock.core.gathering import Gathering, Rules, Source
from penstock.core.identity import WireId, parse_wire_id
from penstock.core.lane import DEAD_LETTERS, LaneKey, Lanes
from penstock.core.lanes_file import parse_lanes
from penstock.core.reasons import REASONS
from penstock.core.request import RequestLimits
from penstock.core.result import HEADERS_BYTES_MAX
from penstock.core.turn import SHARE_REQUESTS, SHARES, USUAL, Priority, Turn, share_of
from tests.support.bad_messages import BAD, BODY_BYTES_MAX, LANES, LATER, Bad, says

NOW = 1_000_000.0
SOURCE = Source("cluster", "requests", uuid.UUID(int=5))
CHAT = LaneKey("account", "/v1/chat/completions", "m", "24h")


@dataclass
class Record:
    """A Kafka record."""

    value: bytes | None
    offset: int = 0
    partition: int = 0
    timestamp: int = 999_998_500
    key: bytes | None = b"key"
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass
class Unpacked:
    """A chunk read back."""

    lane: int
    chunk: NewChunk
    manifest: Manifest = field(init=False)
    lines: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = decode_manifest(self.chunk.manifest)
        self.lines = read_lines(self.chunk.lines, self.manifest)


def gathering(lanes: Lanes | None = None) -> Gathering:
    lanes = lanes or Lanes()
    return Gathering(Rules("account", lanes, RequestLimits(), "results", "dead", lanes.topics("results")), NOW)


def request(custom_id: str = "a", model: str = "m", url: str = CHAT.endpoint) -> bytes:
    return json.dumps({"custom_id": custom_id, "url": url, "body": {"model": model, "messages": []}}).encode()


def packed(gathered: Gathering, *closed: LaneKey) -> list[Unpacked]:
    lanes = {
        key: number
        for number, key in enumerate(dict.fromkeys([DEAD_LETTERS, *(kind.lane for kind in gathered.groups)]))
    }
    return [
        Unpacked(lane, chunk)
        for lane, chunk in gathered.pack({key: number for key, number in lanes.items() if key not in closed})
    ]


def only(gathered: Gathering, *closed: LaneKey) -> Unpacked:
    (chunk,) = packed(gathered, *closed)
    return chunk


def test_requests_become_lines_with_our_wire_ids_and_everything_else_goes_beside_them() -> None:
    gathered = gathering()
    gathered.sort(SOURCE, [Record(request("x"), 7, 2), Record(request("x"), 9, 2, key=None)])
    chunk = only(gathered)
    lines = [json.loads(line) for line in chunk.lines]
    assert [parse_wire_id(line["custom_id"]) for line in lines] == [WireId(chunk.chunk.id, n) for n in (0, 1)]
    assert {(line["method"], line["url"]) for line in lines} == {("POST", CHAT.endpoint)}
    assert all(line.endswith(b'"body":{"model": "m", "messages": []}}\n') for line in chunk.lines)
    manifest = chunk.manifest
    assert (manifest.custom_ids, manifest.offsets, manifest.partitions) == (["x", "x"], [7, 9], [2, 2])
    assert (manifest.keys, manifest.received) == ([b"key", None], [999_998.5] * 2)
    assert manifest.lengths == [len(line) for line in chunk.lines]
    assert manifest.deadlines == [NOW + 48 * 3600] * 2
    assert manifest.result_topics == ["results"] * 2
    assert chunk.chunk.attempt == 0


WEEK = 7 * 86400


@pytest.mark.parametrize(
    ("timestamp", "received"),
    [
        (0, NOW - WEEK),
        (-1, NOW - WEEK),
        (2**63 - 1, NOW),
        (int(NOW - WEEK) * 1000 - 1, NOW - WEEK),
        (999_999_001, 999_999.001),
    ],
)
def test_a_timestamp_counts_within_the_week_before_storing(timestamp: int, received: float) -> None:
    gathered = gathering()
    gathered.sort(SOURCE, [Record(request(), timestamp=timestamp), Record(b"?", timestamp=timestamp)])
    for chunk in packed(gathered):
        assert (chunk.manifest.received, chunk.chunk.received, chunk.chunk.stored) == ([received], received, NOW)


def test_lanes_and_topics_are_apart() -> None:
    other = Source("cluster", "more", uuid.UUID(int=6))
    gathered = gathering()
    gathered.sort(SOURCE, [Record(request()), Record(request(model="n")), Record(request()), Record(b"?")])
    gathered.sort(other, [Record(request())])
    chunks = packed(gathered)
    assert sorted((each.manifest.topic, each.manifest.requests) for each in chunks) == [
        ("more", 1),
        ("requests", 1),
        ("requests", 1),
        ("requests", 2),
    ]
    assert len({each.chunk.id for each in chunks}) == 4


def test_what_cannot_be_a_request_is_kept_whole_for_the_dead_letter_topic() -> None:
    headers = [("secret", b"s"), ("x", None)]
    gathered = gathering()
    gathered.sort(SOURCE, [Record(b"\xff\n{", 3, headers=headers), Record(None, 4)])
    chunk = only(gathered)
    assert chunk.lane == 0
    assert chunk.lines == [b"\xff\n{", b""]
    assert [code for code, _ in chunk.manifest.reasons] == ["invalid_utf8", "empty_value"]
    assert chunk.manifest.headers == [headers, []]
    assert chunk.manifest.result_topics == ["dead", "dead"]
    assert chunk.chunk.size.tokens == 0
    assert gathered.rejected == {("requests", "invalid_utf8"): 1, ("requests", "empty_value"): 1}


def test_requests_of_a_lane_that_may_not_be_opened_become_dead_letters_as_they_came() -> None:
    closed = CHAT._replace(model="one-too-many")
    gathered = gathering()
    gathered.sort(
        SOURCE,
        [Record(request()), Record(request('"x"', closed.model), 8, headers=[("private", b"p")]), Record(b"?", 9)],
    )
    chunks = packed(gathered, closed)
    dead = next(each for each in chunks if each.lane == 0)
    assert [each.manifest.requests for each in chunks if each.lane] == [1]
    assert [code for code, _ in dead.manifest.reasons] == ["invalid_json", "lane_limit"]
    assert dead.manifest.offsets == [9, 8]
    assert dead.manifest.result_topics == ["dead", "dead"]
    assert dead.lines == [b"?", request('"x"', closed.model)]
    assert dead.manifest.headers == [[], [("private", b"p")]]
    assert gathered.rejected[("requests", "lane_limit")] == 1


def test_a_gathering_whose_every_lane_is_closed_is_all_dead_letters() -> None:
    gathered = gathering()
    gathered.sort(SOURCE, [Record(request())])
    assert only(gathered, CHAT).manifest.reasons[0][0] == "lane_limit"


def test_models_that_are_not_configured_are_refused() -> None:
    gathered = gathering(parse_lanes({"models": ["n"]}))
    gathered.sort(SOURCE, [Record(request(model="n")), Record(request(model="m"))])
    assert gathered.rejected == {("requests", "model_not_allowed"): 1}


def test_a_lane_has_the_completion_window_of_its_policy() -> None:
    gathered = gathering(parse_lanes({"lane": [{"model": "m", "completion_window": "7d", "result_topic": "slow"}]}))
    gathered.sort(SOURCE, [Record(request())])
    assert [kind.lane.completion_window for kind in gathered.groups] == ["7d"]
    assert only(gathered).manifest.result_topics == ["slow"]


def test_tenants_and_priorities_are_packed_apart_and_those_who_name_none_together() -> None:
    gathered = gathering()
    tenant, other, low = ("tenant", b"a"), ("tenant", b"b"), ("penstock-priority", b"low")
    headers: list[list[tuple[str, bytes | None]]] = [[], [tenant], [other], [("x-a", b"")], [tenant, low], [tenant]]
    each_has = SHARE_REQUESTS * len(headers)
    gathered.sort(SOURCE, [Record(request(), n, headers=headers[n % len(headers)]) for n in range(each_has)])
    chunks = {each.chunk.turn: each.manifest.offsets for each in packed(gathered)}
    assert chunks == {
        USUAL: [n for n in range(each_has) if n % len(headers) in (0, 3)],
        Turn(Priority.NORMAL, share_of("a")): [n for n in range(each_has) if n % len(headers) in (1, 5)],
        Turn(Priority.NORMAL, share_of("b")): list(range(2, each_has, len(headers))),
        Turn(Priority.LOW, share_of("a")): list(range(4, each_has, len(headers))),
    }


def test_tenants_of_few_requests_share_a_chunk_apart_from_one_of_many_and_from_other_priorities() -> None:
    gathered = gathering()
    low = ("penstock-priority", b"low")
    many: list[list[tuple[str, bytes | None]]] = [[("tenant", b"many")]] * SHARE_REQUESTS
    few: list[list[tuple[str, bytes | None]]] = [
        [("tenant", b"few")],
        [],
        [("tenant", b"a")],
        [("tenant", b"a"), low],
        [("tenant", b"few")],
    ]
    gathered.sort(SOURCE, [Record(request(str(n)), n, headers=each) for n, each in enumerate([*many, *few])])
    first, second, third = packed(gathered)
    assert (first.chunk.turn.share, first.manifest.offsets) == (share_of("many"), list(range(SHARE_REQUESTS)))
    assert (second.chunk.turn.share, second.manifest.offsets) == (share_of("few"), [20, 21, 22, 24])
    assert second.manifest.custom_ids == ["20", "21", "22", "24"]
    assert [json.loads(line)["body"]["model"] for line in second.lines] == ["m"] * 4
    assert (third.chunk.turn.priority, third.manifest.offsets) == (Priority.LOW, [23])


def test_however_many_tenants_there_are_the_chunks_are_few() -> None:
    gathered = gathering()
    records = [Record(request(), n, headers=[("tenant", str(n).encode())]) for n in range(2000)]
    gathered.sort(SOURCE, records)
    assert len(packed(gathered)) == SHARES


def test_accounts_are_lanes_of_their_own() -> None:
    gathered = gathering(parse_lanes({"account": [{"name": "eu", "topics": ["requests"], "tenants": ["a", "\ufffd"]}]}))
    tenants = [b"a", b"b", b"\xff", None]
    gathered.sort(
        SOURCE, [Record(request(), offset, headers=[("tenant", each)]) for offset, each in enumerate(tenants)]
    )
    assert [kind.lane.account for kind in gathered.groups] == ["eu", "account", "eu", "account"]
    assert gathered.rejected == {}


@pytest.mark.parametrize(("seconds", "deadline"), [(b"60", 60), (b"0.5", 0.5), (b"999999999", 48 * 3600)])
def test_a_header_may_shorten_the_deadline(seconds: bytes, deadline: float) -> None:
    gathered = gathering()
    gathered.sort(SOURCE, [Record(request(), headers=[("penstock-deadline-seconds", seconds)])])
    assert only(gathered).manifest.deadlines == [NOW + deadline]


@pytest.mark.parametrize(
    "seconds", [b"", b"soon", b"0", b"0.0", b"-1", b"1e3", b" 1", b"1\n", b"1_0", b"nan", b"inf", None, b"\xff"]
)
def test_a_deadline_that_is_no_time_is_refused(seconds: bytes | None) -> None:
    gathered = gathering()
    gathered.sort(SOURCE, [Record(request(), headers=[("penstock-deadline-seconds", seconds)])])
    assert gathered.rejected == {("requests", "invalid_deadline"): 1}


def test_a_header_may_pick_a_configured_result_topic() -> None:
    gathered = gathering(parse_lanes({"result_topics": ["mine"]}))
    gathered.sort(SOURCE, [Record(request(), headers=[("penstock-result-topic", b"mine")])])
    assert only(gathered).manifest.result_topics == ["mine"]


@pytest.mark.parametrize("topic", [b"theirs", b"", None, b"\xff", b"dead"])
def test_any_other_result_topic_is_refused(topic: bytes | None) -> None:
    gathered = gathering()
    gathered.sort(SOURCE, [Record(request(), headers=[("penstock-result-topic", topic)])])
    assert gathered.rejected == {("requests", "result_topic_not_allowed"): 1}


def test_headers_are_bounded_and_those_that_are_meant_for_the_result_pass() -> None:
    just = [("private", b"p"), ("traceparent", b"t"), ("x-none", None)]
    just.append(("x-large", bytes(HEADERS_BYTES_MAX - sum(len(name) + len(value or b"") for name, value in just) - 7)))
    gathered = gathering()
    gathered.sort(SOURCE, [Record(request(), headers=just)])
    assert only(gathered).manifest.headers == [just[1:]]
    gathered = gathering()
    gathered.sort(
        SOURCE, [Record(request(), headers=[*just, ("h", b"")]), Record(request(), headers=[("h", b"")] * 101)]
    )
    assert gathered.rejected == {("requests", "headers_too_large"): 2}


def test_more_inputs_than_a_batch_of_the_lane_takes_are_refused_and_more_bytes_go_alone() -> None:
    gathered = gathering(parse_lanes({"lane": [{"endpoint": "/v1/embeddings", "inputs_max": 2, "bytes_max": 10}]}))
    for inputs in (2, 3):
        body = {"model": "e", "input": ["x"] * inputs}
        gathered.sort(SOURCE, [Record(json.dumps({"custom_id": "a", "url": "/v1/embeddings", "body": body}).encode())])
    assert gathered.rejected == {("requests", "too_many_inputs"): 1}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_every_bad_message_is_one_dead_letter_as_it_came_with_a_reason_of_the_list(bad: Bad) -> None:
    lanes = parse_lanes(tomllib.loads(LANES))
    rules = Rules("account", lanes, RequestLimits(BODY_BYTES_MAX), "results", "dead", lanes.topics("results"))
    gathered = Gathering(rules, NOW)
    gathered.sort(SOURCE, [Record(bad.value, 7, headers=bad.headers, key=bad.key)])
    letter = only(gathered)
    assert letter.lines == [bad.value or b""]
    assert letter.manifest.nulls == ([0] if bad.value is None else [])
    ((code, sentence),) = letter.manifest.reasons
    assert code == bad.code
    assert says(code, sentence)
    assert (letter.manifest.headers, letter.manifest.keys) == ([list(bad.headers)], [bad.key])


def test_every_reason_has_a_message_that_meets_it() -> None:
    assert {bad.code for bad in BAD.values()} | set(LATER.values()) == set(REASONS)
