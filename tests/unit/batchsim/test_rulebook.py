import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchsim.rulebook import Call, Rulebook, parse_rules, read_scenario
from batchsim.rules import WebhookFault


def rulebook(*rules: dict[str, Any], seed: str = "seed") -> Rulebook:
    book = Rulebook(seed, [])
    book.replace(parse_rules(json.dumps(rules).encode()))
    return book


def hits(book: Rulebook, calls: int, operation: str = "batches.create", **query: str) -> list[bool]:
    return [book.http_fault(Call(operation, "/v1/batches", query)) is not None for _ in range(calls)]


def test_a_rule_without_conditions_fires_always() -> None:
    assert hits(rulebook({"http": {"status": 500}}), 3) == [True, True, True]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"nth": 2}, [False, True, False, False]),
        ({"times": 2}, [True, True, False, False]),
        ({"nth": 2, "times": 2}, [False, True, True, False]),
        ({"operation": "files.*"}, [False, False, False, False]),
        ({"operation": "batches.*"}, [True, True, True, True]),
        ({"when": {"path": "/v1/files*"}}, [False, False, False, False]),
        ({"when": {"query": {"after": "*"}}}, [False, False, False, False]),
        ({"probability": 0}, [False, False, False, False]),
    ],
)
def test_a_rule_fires_under_its_conditions(conditions: dict[str, Any], expected: list[bool]) -> None:
    assert hits(rulebook({**conditions, "http": {"drop": True}}), 4) == expected


def test_a_later_page_is_told_by_its_query() -> None:
    rule = {"operation": "batches.list", "when": {"query": {"after": "batch_*"}}, "http": {"status": 500}}
    book = rulebook(rule)
    assert hits(book, 1, "batches.list") == [False]
    assert hits(book, 1, "batches.list", after="batch_1") == [True]


def test_the_first_rule_that_is_due_fires_and_all_count() -> None:
    book = rulebook({"nth": 2, "http": {"status": 503}}, {"http": {"status": 500}})
    faults = [book.http_fault(Call("batches.list", "/v1/batches")) for _ in range(3)]
    assert [fault.status if fault else None for fault in faults] == [500, 503, 500]
    assert [(one.matched, one.fired) for one in book.rules] == [(3, 1), (3, 2)]


def test_chance_is_repeatable_and_near_its_probability() -> None:
    rule = {"probability": 0.3, "http": {"status": 500}}
    first = hits(rulebook(rule), 1000)
    assert first == hits(rulebook(rule), 1000)
    assert first != hits(rulebook(rule, seed="other"), 1000)
    assert 250 < sum(first) < 350


def test_a_batch_rule_matches_endpoint_model_and_metadata() -> None:
    when = {"endpoint": "/v1/emb*", "model": "text-*", "metadata": {"lane": "a*"}}
    book = rulebook({"when": when, "batch": {"end": "expired"}})
    assert book.outcome("/v1/embeddings", "text-embedding-3-small", {"lane": "abc"}) is not None
    assert book.outcome("/v1/responses", "text-embedding-3-small", {"lane": "abc"}) is None
    assert book.outcome("/v1/embeddings", "gpt-4o", {"lane": "abc"}) is None
    assert book.outcome("/v1/embeddings", "text-embedding-3-small", {}) is None
    assert hits(book, 1) == [False]


def test_a_webhook_rule_matches_the_type_of_the_event_and_the_batch() -> None:
    book = rulebook({"operation": "batch.fail*", "when": {"model": "gpt-*"}, "webhook": {"copies": 2}})
    assert book.webhook_fault("batch.failed", "/v1/responses", "gpt-4o", {}) == WebhookFault(copies=2)
    assert book.webhook_fault("batch.completed", "/v1/responses", "gpt-4o", {}) is None
    assert book.webhook_fault("batch.failed", "/v1/responses", "o3", {}) is None
    assert book.outcome("/v1/responses", "gpt-4o", {}) is None


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"http": {"drop": True}, "batch": {}},
        {"webhook": {}, "batch": {}},
        {"webhook": {"signature": "odd"}},
        {"http": {"drop": True, "status": 500}},
        {"http": {"effect": "late", "status": 500}},
        {"http": {"effect": "none"}},
        {"http": {"unknown": 1}},
        {"batch": {"end": "failed"}},
        {"batch": {"failure": {"code": "x"}}},
        {"batch": {"end": "failed", "failure": {"code": "x", "line": 1, "contains": "x"}}},
        {"batch": {"stuck": "completed"}},
        {"batch": {"lines": [{}]}},
        {"batch": {"lines": [{"status_code": 500, "defect": "twice"}]}},
        {"batch": {"lines": [{"status_code": 500, "count": 1, "fraction": 0.5}]}},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        parse_rules(json.dumps([rule]).encode())


def test_a_scenario_is_read_from_toml_and_json(tmp_path: Path) -> None:
    toml = tmp_path / "storm.toml"
    toml.write_text('[[rules]]\noperation = "batches.list"\nprobability = 0.5\nhttp = { status = 429 }\n')
    plain = tmp_path / "storm.json"
    plain.write_text('[{"operation":"batches.list","probability":0.5,"http":{"status":429}}]')
    assert read_scenario(toml) == read_scenario(plain)
