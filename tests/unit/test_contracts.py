"""docs/contracts says what the code takes and sends: values of the schemas are held against it, in both directions."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from penstock.core.decision import FINAL, FORMAT, Decision, Outcome, read_line
from penstock.core.errors import RejectedMessage
from penstock.core.gathering import Gathering, wire_lines
from penstock.core.identity import new_id
from penstock.core.lane import ENDPOINTS, LanePolicy
from penstock.core.publication import Publication, Record, shared_headers
from penstock.core.reasons import REASONS
from penstock.core.redrive import ORIGIN_HEADER
from penstock.core.request import CUSTOM_ID_BYTES_MAX, MODEL_LENGTH_MAX, RequestLimits, parse_request
from penstock.core.result import DEADLINE_HEADER, PASSED_HEADERS, PRIORITY_HEADER, RESULT_TOPIC_HEADER
from penstock.core.window import Part
from penstock.core.wishes import HEADERS_MAX
from penstock.settings import KafkaSettings
from tests.fuzz.judge import SOURCE, WIDE
from tests.fuzz.judge import Record as Message
from tests.support.contracts import (
    ANY,
    FOLDER,
    NAMES,
    allowed,
    codes,
    complaints,
    doubtful,
    schema,
    texts,
    values,
)
from tests.unit.core.test_chunk import manifest_of

LIMITS = RequestLimits()
QUICK = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
ASYNCAPI: dict[str, Any] = json.loads((FOLDER / "asyncapi.json").read_text())


def code_of(value: object, *, ascii_only: bool = True) -> str | None:
    """The code of a value's dead letter, None for a request."""
    try:
        parse_request(json.dumps(value, ensure_ascii=ascii_only).encode(), LIMITS)
    except RejectedMessage as rejection:
        return rejection.code
    return None


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_its_examples_are_allowed(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert [complaints(name, example) for example in schema(name)["examples"]] == [[]] * len(schema(name)["examples"])


@given(allowed(), st.booleans())
@QUICK
def test_every_value_that_the_schema_allows_is_a_request(value: object, ascii_only: bool) -> None:
    assert code_of(value, ascii_only=ascii_only) is None


@given(doubtful())
@QUICK
def test_every_value_that_the_schema_does_not_allow_is_a_dead_letter_with_the_code_it_names(value: object) -> None:
    found, code = codes("request", value), code_of(value)
    assert code in found if found else code is None, (found, code)


def test_the_schema_of_a_request_has_the_limits_of_the_code() -> None:
    properties = schema("request")["properties"]
    assert properties["custom_id"]["maxBytes"] == CUSTOM_ID_BYTES_MAX
    assert properties["body"]["properties"]["model"]["maxLength"] == MODEL_LENGTH_MAX
    assert properties["url"]["enum"] == list(ENDPOINTS)
    most = schema("request")["then"]["properties"]["body"]["properties"]["input"]["else"]["maxItems"]
    assert most == LanePolicy().inputs_max
    assert schema("request-headers")["maxProperties"] == HEADERS_MAX
    assert schema("dead-letter-headers")["properties"]["penstock.error.code"]["enum"] == list(REASONS)


def test_inputs_are_counted_as_the_schema_counts_them() -> None:
    for given_input, code in ((["x"] * 50_000, None), (["x"] * 50_001, "too_many_inputs"), ([1] * 50_001, None)):
        value = {"custom_id": "a", "url": "/v1/embeddings", "body": {"model": "m", "input": given_input}}
        assert codes("request", value) == ({code} if code else set())
        assert (outcome(value, {}) or None) == code


def outcome(value: object, headers: dict[str, str]) -> str:
    """The code of a message's dead letter, or nothing."""
    gathered = Gathering(replace(WIDE, limits=LIMITS), 0.0)
    own = [(name, text.encode()) for name, text in headers.items()]
    gathered.sort(SOURCE, [Message(json.dumps(value).encode(), own)])
    return next((code for _, code in gathered.rejected), "")


GOOD = schema("request")["examples"][0]


@given(values(schema("request-headers")))
@QUICK
def test_headers_that_the_schema_allows_are_taken(headers: dict[str, str]) -> None:
    headers.pop(RESULT_TOPIC_HEADER, None)
    assert complaints("request-headers", headers) == []
    assert outcome(GOOD, headers) == ""


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.text("0123456789.e-+ \n", max_size=22))
@QUICK
def test_a_deadline_is_taken_exactly_when_the_schema_allows_it(text: str) -> None:
    found = codes("request-headers", {DEADLINE_HEADER: text})
    assert outcome(GOOD, {DEADLINE_HEADER: text}) == (found.pop() if found else "")


@given(st.sampled_from(["high", "normal", "low", "High", "", " low", "1", "low\n"]) | st.text(max_size=6))
@QUICK
def test_a_priority_is_taken_exactly_when_the_schema_allows_it(text: str) -> None:
    text = text.encode(errors="replace").decode()
    found = codes("request-headers", {PRIORITY_HEADER: text})
    assert outcome(GOOD, {PRIORITY_HEADER: text}) == (found.pop() if found else "")


def test_more_headers_than_the_schema_allows_are_refused() -> None:
    headers = {f"h-{number}": "" for number in range(HEADERS_MAX + 1)}
    assert codes("request-headers", headers) == {outcome(GOOD, headers)} == {"headers_too_large"}


@given(
    st.fixed_dictionaries({"custom_id": st.just("w")}, optional=dict.fromkeys(("id", "response", "error", "x"), ANY))
)
@QUICK
def test_whatever_line_of_a_provider_can_be_read_the_result_is_as_its_schema_says(line: dict[str, Any]) -> None:
    raw = json.dumps(line).encode()
    if read_line(raw) is None:
        return
    for outcome in (Outcome.OUTPUT, Outcome.ERROR, Outcome.EXHAUSTED, Outcome.VERDICT, Outcome.DEADLINE):
        assert_as_documented(record(outcome, raw))


@pytest.mark.parametrize("outcome", sorted(FINAL))
@pytest.mark.parametrize("results_max", [10_000_000, 1000])
def test_every_record_that_is_sent_is_as_its_schemas_say(outcome: Outcome, results_max: int) -> None:
    line = {"id": "r", "custom_id": "w", "response": {"status_code": 200, "body": "x" * 2000}, "error": None}
    assert_as_documented(record(outcome, json.dumps(line).encode(), results_max))


def record(outcome: Outcome, line: bytes, results_max: int = 10_000_000) -> Record:
    """What is published of a request."""
    lines = wire_lines(new_id(), "/v1/responses", [b'{"model":"m"}'])
    manifest = manifest_of(list(lines))
    manifest.headers = [[("traceparent", b"t"), ("x-none", None)]]
    manifest.reasons = [("invalid_json", REASONS["invalid_json"])]
    limits = {"results": results_max, "dead": 1500}
    publication = Publication(
        Decision(FORMAT, bytes([outcome]), "c", "m"), lambda _: line, lambda _: ("f", 7), "dead", limits
    )
    shared = shared_headers(new_id().hex, None, 0, datetime(2026, 1, 2, tzinfo=UTC), None)
    (found,) = publication.records(manifest, Part(new_id(), 0, 1), 0, 0, 1, lines, shared)
    return found


def assert_as_documented(sent: Record) -> None:
    """Hold a record against the schemas of its topic."""
    if sent.dead:
        assert complaints("dead-letter-headers", texts(sent.headers)) == []
        return
    assert complaints("result", json.loads(sent.value or b"")) == []
    assert complaints("result-headers", texts(sent.headers)) == []


def test_the_headers_that_pass_are_those_of_the_schemas() -> None:
    for name in ("request-headers", "result-headers"):
        assert schema(name)["properties"].keys() >= PASSED_HEADERS
    assert {DEADLINE_HEADER, PRIORITY_HEADER, RESULT_TOPIC_HEADER, ORIGIN_HEADER} == {
        name for name in schema("request-headers")["properties"] if name.startswith("penstock-")
    }


def references(node: object) -> Iterator[str]:
    """Every `$ref` of a document."""
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(each, str) and isinstance(node, dict) and node.get("$ref") == each:
            yield each
        yield from references(each)


def test_the_asyncapi_document_names_what_is_there() -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    found = list(references(ASYNCAPI))
    assert {Path(each).name for each in found if each.startswith("./")} == {f"{name}.schema.json" for name in NAMES}
    for each in found:
        if each.startswith("./"):
            continue
        place: Any = ASYNCAPI
        for step in each.removeprefix("#/").split("/"):
            place = place[step]
    addresses = {name: channel["address"] for name, channel in ASYNCAPI["channels"].items()}
    kafka = KafkaSettings()
    assert addresses == {
        "requests": kafka.request_topics[0],
        "results": kafka.result_topic,
        "deadLetters": kafka.dead_letter_topic,
    }
    assert {each["channel"]["$ref"] for each in ASYNCAPI["operations"].values()} == {
        f"#/channels/{name}" for name in ASYNCAPI["channels"]
    }
