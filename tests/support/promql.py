"""What an expression of PromQL asks for: metrics, and the labels that it selects and groups them by.

Enough of the language for rules and dashboards: `promtool` parses each expression in `make test-deploy`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tests.support.reference import Entry

TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<range>\[[^\]]*\])"""
    r"""|(?P<number>\d[\w.]*)|(?P<name>[a-zA-Z_:$][\w:$]*)|(?P<sign>=~|!~|!=|>=|<=|==|[-+*/%^=<>(){},@])"""
)
GROUPING = {"by", "without"}
MATCHING = {"on", "ignoring", "group_left", "group_right"}
WORDS = GROUPING | MATCHING | {"and", "or", "unless", "bool", "offset", "inf", "nan"}
SCRAPED = frozenset({"namespace", "job", "instance", "pod"})
"""Labels that Prometheus adds to every series."""
OWN = {"up": frozenset[str]()}
"""Metrics of Prometheus itself."""
SERIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "counter": {"": ()},
    "gauge": {"": ()},
    "histogram": {"_bucket": ("le",), "_count": (), "_sum": ()},
}


class Misread(ValueError):
    """An expression that this reader does not know how to read."""


@dataclass(frozen=True, slots=True)
class Found:
    """A label of an expression, and the metrics that should have it."""

    label: str
    metrics: frozenset[str]


def tokens(expression: str) -> list[tuple[str, str]]:
    """Kind and text of each token."""
    found, at = [], 0
    while at < len(expression):
        match = TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            raise Misread(f"{expression[at : at + 20]!r} in {expression!r}")
        if match.lastgroup != "space":
            found.append((match.lastgroup, match[0]))
        at = match.end()
    return found


def closing(read: list[tuple[str, str]], opening: int) -> int:
    """Where the bracket that opens here is closed."""
    depth = 0
    for at in range(opening, len(read)):
        depth += (read[at][1] in "({") - (read[at][1] in ")}") if read[at][0] == "sign" else 0
        if depth == 0:
            return at
    raise Misread(f"{read[opening][1]!r} is never closed")


def names(read: list[tuple[str, str]], start: int = 0, end: int | None = None) -> Iterator[tuple[int, str]]:
    """The metrics between two tokens, and where they stand."""
    at, end = start, len(read) if end is None else end
    while at < end:
        kind, text = read[at]
        opens = read[at + 1][1] if at + 1 < len(read) else ""
        if kind == "name" and text in GROUPING | MATCHING and opens == "(":
            at = closing(read, at + 1)
        elif text == "{":
            at = closing(read, at)
        elif kind == "name" and text not in WORDS and opens != "(" and (opens not in GROUPING):
            yield at, text
        at += 1


def metrics_of(expression: str) -> set[str]:
    """The metrics of an expression."""
    return {name for _, name in names(tokens(expression))}


def labels_of(expression: str) -> Iterator[Found]:
    """The labels that an expression selects by, groups by and matches on."""
    read = tokens(expression)
    for at, name in names(read):
        if at + 1 < len(read) and read[at + 1][1] == "{":
            inside = read[at + 2 : closing(read, at + 1)]
            for (kind, text), (_, sign) in pairwise(inside):
                if kind == "name" and sign in {"=", "!=", "=~", "!~"}:
                    yield Found(text, frozenset({name}))
    everywhere = frozenset(name for _, name in names(read))
    for at, (kind, text) in enumerate(read):
        if kind == "name" and text in GROUPING | MATCHING and read[at + 1][1] == "(":
            end = closing(read, at + 1)
            metrics = everywhere
            if text in GROUPING:
                if read[end + 1][1] != "(":
                    raise Misread(f"{text} stands after what it groups in {expression!r}")
                metrics = frozenset(name for _, name in names(read, end + 1, closing(read, end + 1)))
            yield from (Found(each, metrics) for kind, each in read[at + 2 : end] if kind == "name")


def known_series(catalogue: Mapping[str, Entry]) -> dict[str, frozenset[str]]:
    """Every series that the service shows, with its own labels."""
    found: dict[str, frozenset[str]] = dict(OWN)
    for each in catalogue.values():
        for suffix, more in SERIES[each.kind].items():
            found[each.name + suffix] = frozenset({*each.labels, *more})
    return found


def mistakes(expression: str, known: Mapping[str, frozenset[str]]) -> list[str]:
    """What an expression asks for that is not there."""
    found = [f"no metric {each}" for each in sorted(metrics_of(expression) - known.keys())]
    if found:
        return found
    return [
        f"no label {each.label} of {', '.join(sorted(each.metrics))}"
        for each in labels_of(expression)
        if each.label not in SCRAPED and not any(each.label in known[metric] for metric in each.metrics)
    ]
