"""The lanes file: from its parsed TOML to lanes and accounts, with every mistake in it told at once."""

import math
from collections.abc import Mapping
from dataclasses import replace

from penstock.core.account import parse_accounts, texts
from penstock.core.lane import ENDPOINTS, LanePolicy, LaneRule, Lanes
from penstock.core.problems import Problems, meant

FILE = "lanes file"
KEYS = frozenset({"defaults", "lane", "models", "lanes_max", "result_topics", "backlog_bytes_max", "account"})
"""What the lanes file holds at the top."""
POLICY_FIELDS = frozenset(LanePolicy.__dataclass_fields__)
MATCHED = ("account", "endpoint", "model")
"""The keys of a `[[lane]]` that say which lanes it speaks of."""
TEXTS = ("name", "completion_window", "result_topic")
CEILINGS = {"requests_max": 50_000, "bytes_max": 200_000_000, "inputs_max": 50_000, "attempts_max": 100}
"""What no lane may go beyond: the provider's own limits, and more tries than a deadline has room for."""


def parse_lanes(document: Mapping[str, object]) -> Lanes:
    """Read a lanes document (the parsed TOML file).

    Raises:
        ConfigurationError: with every mistake and its place.
    """
    problems = Problems()
    lanes = collect_lanes(document, problems)
    problems.settle()
    return lanes


def collect_lanes(document: Mapping[str, object], problems: Problems) -> Lanes:
    """Read a lanes document, and leave out what is wrong with it.

    Args:
        document: ``{"defaults": {...}, "lane": [{...}], "models": [...], "lanes_max": N, "result_topics": [...],
            "backlog_bytes_max": {TOPIC: N}, "account": [{...}]}``.
        problems: takes an unknown key, a wrong type or a limit above the provider's, with the place named.
    """
    for name in sorted(document.keys() - KEYS):
        problems.unknown(f"{FILE}: {name}", name, KEYS)
    defaults = _policy(problems, "defaults", document.get("defaults", {}), POLICY_FIELDS)
    rules = [
        _rule(problems, f"lane[{number}]", entry)
        for number, entry in enumerate(_list(problems, "lane", document.get("lane", [])))
    ]
    models, lanes_max = document.get("models"), Lanes().lanes_max
    return Lanes(
        replace(LanePolicy(), **defaults),  # type: ignore[arg-type]  # checked
        tuple(rules),
        None if models is None else texts(problems, "models", models),
        _whole(problems, "lanes_max", document.get("lanes_max", lanes_max)) or lanes_max,
        texts(problems, "result_topics", document.get("result_topics", [])),
        _backlogs(problems, document.get("backlog_bytes_max", {})),
        parse_accounts(problems, _list(problems, "account", document.get("account", [])), ENDPOINTS),
    )


def _rule(problems: Problems, where: str, entry: object) -> LaneRule:
    values = _policy(problems, where, entry, {*MATCHED, *POLICY_FIELDS})
    match: dict[str, str | None] = {}
    for name in MATCHED:
        value = values.pop(name, None)
        match[name] = value if isinstance(value, str) else None
    endpoint = match["endpoint"]
    if endpoint is not None and endpoint not in ENDPOINTS:
        problems.add(f"{FILE}: {where}.endpoint must be one of {', '.join(ENDPOINTS)}{meant(endpoint, ENDPOINTS)}")
    return LaneRule(endpoint, match["model"], values, match["account"])


def _whole(problems: Problems, where: str, value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    problems.add(f"{FILE}: {where} must be a whole number from 1")
    return None


def _backlogs(problems: Problems, table: object) -> dict[str, int]:
    if not isinstance(table, Mapping):
        problems.add(f"{FILE}: backlog_bytes_max must be a table of request topics")
        return {}
    read = {topic: _whole(problems, f"backlog_bytes_max.{topic!r}", limit) for topic, limit in table.items()}
    return {topic: limit for topic, limit in read.items() if limit is not None}


def _list(problems: Problems, where: str, value: object) -> list[object]:
    if isinstance(value, list):
        return value
    problems.add(f"{FILE}: {where} must be a list")
    return []


def _policy(problems: Problems, where: str, table: object, known: set[str] | frozenset[str]) -> dict[str, object]:
    """The values of a table that are right."""
    if not isinstance(table, Mapping):
        problems.add(f"{FILE}: {where} must be a table")
        return {}
    values: dict[str, object] = {}
    for name, value in table.items():
        if name not in known:
            problems.unknown(f"{FILE}: {where}.{name}", name, known)
        elif wrong := _wrong(name, value):
            problems.add(f"{FILE}: {where}.{name} must be {wrong}")
        else:
            values[name] = value
    return values


def _wrong(name: str, value: object) -> str:
    """What a key's value must be, when it is not that; else empty."""
    if name in TEXTS or name in MATCHED:
        return "" if isinstance(value, str) else "a text"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "a number"
    if not 0 < value < math.inf:
        return "above 0"
    if not name.endswith("_seconds") and not name.startswith("usd_") and not isinstance(value, int):
        return "a whole number"
    return f"at most {CEILINGS[name]}" if value > CEILINGS.get(name, value) else ""
