"""The rules in force, and which of them fires."""

import tomllib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from batchsim.chance import share
from batchsim.rules import CountedRule, HttpFault, Outcome, Rule, WebhookFault


class Call(NamedTuple):
    """What a rule may ask of an HTTP call; `body_bytes` is its Content-Length, 0 without one."""

    operation: str
    path: str
    query: Mapping[str, str] = {}
    key: str = ""
    body_bytes: int = 0


class Rulebook:
    """The rules in force, first match first. Chance comes from the seed, so it can be repeated.

    `has_counted` tells that a count changed on which a later decision depends; whoever saves the rules resets it.
    """

    def __init__(self, seed: str, rules: list[CountedRule]) -> None:
        self.seed = seed
        self.rules = rules
        self.has_counted = False

    def replace(self, rules: list[Rule]) -> None:
        """Put other rules in force; counting starts anew."""
        self.rules = [CountedRule(rule) for rule in rules]

    def http_fault(self, call: Call) -> HttpFault | None:
        """What goes wrong with a call, if anything."""

        def matches(rule: Rule) -> bool:
            return (
                rule.http is not None
                and fnmatchcase(call.operation, rule.operation)
                and fnmatchcase(call.path, rule.when.path)
                and fnmatchcase(call.key, rule.when.key)
                and all_match(rule.when.query, call.query)
                and call.body_bytes >= rule.when.body_bytes_min
            )

        rule = self.fire(matches)
        return rule.http if rule else None

    def outcome(self, endpoint: str, model: str, metadata: Mapping[str, str]) -> Outcome | None:
        """What becomes of a new batch, if not the usual."""
        rule = self.fire(lambda rule: rule.batch is not None and of_batch(rule, endpoint, model, metadata))
        return rule.batch if rule else None

    def webhook_fault(
        self, event_type: str, endpoint: str, model: str, metadata: Mapping[str, str]
    ) -> WebhookFault | None:
        """How the end of a batch is announced, if not as usual."""

        def matches(rule: Rule) -> bool:
            return (
                rule.webhook is not None
                and fnmatchcase(event_type, rule.operation)
                and of_batch(rule, endpoint, model, metadata)
            )

        rule = self.fire(matches)
        return rule.webhook if rule else None

    def fire(self, matches: Callable[[Rule], bool]) -> Rule | None:
        """Count the match for each rule that matches; the first of them that is due fires."""
        fired: Rule | None = None
        for place, counted in enumerate(self.rules):
            if matches(counted.rule):
                counted.matched += 1
                self.has_counted = self.has_counted or counted.rule.is_conditional
                if fired is None and self.is_due(place, counted):
                    counted.fired += 1
                    fired = counted.rule
        return fired

    def is_due(self, place: int, counted: CountedRule) -> bool:
        """Whether a rule that has just matched fires."""
        rule = counted.rule
        if counted.matched < (rule.nth or 1) or (rule.times_max is not None and counted.fired >= rule.times_max):
            return False
        return share(self.seed, "rule", place, counted.matched) < rule.probability


def of_batch(rule: Rule, endpoint: str, model: str, metadata: Mapping[str, str]) -> bool:
    """Whether a batch is as the rule's conditions want it."""
    return (
        fnmatchcase(endpoint, rule.when.endpoint)
        and fnmatchcase(model, rule.when.model)
        and all_match(rule.when.metadata, metadata)
    )


def all_match(patterns: Mapping[str, str], values: Mapping[str, str]) -> bool:
    """Whether each pattern's key is there with a value that matches."""
    return all(key in values and fnmatchcase(values[key], pattern) for key, pattern in patterns.items())


def parse_rules(text: bytes, *, toml: bool = False) -> list[Rule]:
    """Rules from a JSON list, or from JSON or TOML with the list under `rules`.

    Raises:
        msgspec.ValidationError: with the path of what is wrong.
        msgspec.DecodeError: when it is not JSON.
        tomllib.TOMLDecodeError: when it is not TOML.
    """
    decoded: Any = tomllib.loads(text.decode()) if toml else msgspec.json.decode(text)
    if isinstance(decoded, dict) and set(decoded) == {"rules"}:
        decoded = decoded["rules"]
    return msgspec.convert(decoded, list[Rule])


def read_scenario(path: Path) -> list[Rule]:
    """The rules of a scenario file: TOML if it is named so, else JSON. Raises as `parse_rules` does."""
    return parse_rules(path.read_bytes(), toml=path.suffix == ".toml")
