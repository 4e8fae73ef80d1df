"""Lanes: what may share a batch, and the policy of each."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from penstock.core.account import AccountRule, parse_accounts, texts
from penstock.core.errors import ConfigurationError

ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)
EMBEDDINGS = "/v1/embeddings"
DEAD_LETTER_ENDPOINT = "dead-letter"
"""The endpoint of the lane that has no provider: what cannot be a request waits there for the publisher."""


WINDOW = re.compile(r"\s*(\d{1,6})\s*([smhdw])[a-z]*\s*", re.IGNORECASE)
UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
DAY_SECONDS = 86_400.0


def window_seconds(completion_window: str) -> float:
    """How long a provider may take for a batch: `24h`, `7d`; a day when the text says no time."""
    found = WINDOW.fullmatch(completion_window)
    return int(found[1]) * UNIT_SECONDS[found[2].lower()] if found and int(found[1]) else DAY_SECONDS


class LaneKey(NamedTuple):
    """What may share a batch. Tenants share batches."""

    account: str
    endpoint: str
    model: str
    completion_window: str

    @property
    def dead(self) -> bool:
        """Whether this is the lane without a provider."""
        return self.endpoint == DEAD_LETTER_ENDPOINT

    def __str__(self) -> str:
        return f"{self.account}{self.endpoint}:{self.model}@{self.completion_window}"


DEAD_LETTERS = LaneKey("", DEAD_LETTER_ENDPOINT, "", "")


OTHER = "other"
"""The name in metrics of lanes that have none."""


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """Limits and times of a lane.

    The limits on requests, bytes and inputs are the provider's own by default and cannot be raised above them.
    """

    name: str = ""
    """The lane's name in metrics; empty for lanes that are not configured (they are `other`)."""
    requests_max: int = 50_000
    """Requests of one batch, at most; a window that reaches it is sealed at once."""
    bytes_max: int = 200_000_000
    """Bytes of one batch's file, at most."""
    inputs_max: int = 50_000
    """Embedding inputs of one batch, at most."""
    age_max_seconds: float = 300.0
    """A window is sealed at this age at the latest."""
    completion_window: str = "24h"
    """What is asked of the provider; OpenAI takes 24h alone."""
    attempts_max: int = 4
    """Times a request may fail by its own fault (429, 5xx) before its error is the answer."""
    retry_min_seconds: float = 60.0
    """Before the second try of a request that failed by itself; doubles with each further one, with jitter."""
    retry_max_seconds: float = 3600.0
    """Longest wait before another try."""
    deadline_seconds: float = 48 * 3600.0
    """Past it no new attempt starts; the answer then is the error `deadline_exceeded`. A header may shorten it."""
    enqueued_tokens_max: int | None = None
    """The provider's enqueued-token limit of the model; left out, it is learned from the first failure."""
    usd_per_day_max: float | None = None
    """What one lane may spend on a day of UTC, in US dollars; past it nothing more of it is sealed until the next."""
    result_topic: str = ""
    """Where results go; empty means the deployment's result topic."""


KEYS = frozenset({"defaults", "lane", "models", "lanes_max", "result_topics", "backlog_bytes_max", "account"})
"""What the lanes file holds at the top."""
POLICY_FIELDS = frozenset(LanePolicy.__dataclass_fields__)
CEILINGS = {"requests_max": 50_000, "bytes_max": 200_000_000, "inputs_max": 50_000, "attempts_max": 100}
"""What no lane may go beyond: the provider's own limits, and more tries than a deadline has room for."""


@dataclass(frozen=True, slots=True)
class LaneRule:
    """A configured override: the lanes it matches, and the policy fields it sets."""

    endpoint: str | None
    model: str | None
    values: Mapping[str, object]
    account: str | None = None

    def matches(self, key: LaneKey) -> bool:
        """Whether this rule speaks of the lane."""
        wanted = ((self.account, key.account), (self.endpoint, key.endpoint), (self.model, key.model))
        return all(each in (None, own) for each, own in wanted)


@dataclass(frozen=True, slots=True)
class Lanes:
    """Every lane's policy, from defaults and rules; later rules win."""

    defaults: LanePolicy = field(default_factory=LanePolicy)
    rules: tuple[LaneRule, ...] = ()
    models: tuple[str, ...] | None = None
    """The models that requests may name; left out, any may, up to `lanes_max` lanes."""
    lanes_max: int = 200
    """Lanes that may be open at a time; requests of a further one are dead letters with the code `lane_limit`."""
    result_topics: tuple[str, ...] = ()
    """Topics that a message may pick by header, beside those that lanes name."""
    backlogs: Mapping[str, int] = field(default_factory=dict)
    """Bytes that a request topic may hold in Postgres, where it differs from the deployment's limit."""
    accounts: tuple[AccountRule, ...] = ()
    """Accounts beside the one of the settings; the first that takes a request has it."""

    @property
    def names(self) -> frozenset[str]:
        """Every name in metrics that a lane can have."""
        rules = {str(rule.values["name"]) for rule in self.rules if rule.values.get("name")}
        return frozenset({self.defaults.name or OTHER, *rules})

    def account(self, topic: str, tenant: str, endpoint: str, model: str) -> str | None:
        """The account that a request goes to; None is that of the settings."""
        return next((each.name for each in self.accounts if each.takes(topic, tenant, endpoint, model)), None)

    @property
    def limits_spending(self) -> bool:
        """Whether any lane has a limit of dollars a day."""
        rules = any("usd_per_day_max" in rule.values for rule in self.rules)
        return rules or self.defaults.usd_per_day_max is not None

    def policy(self, key: LaneKey) -> LanePolicy:
        """The policy in force for a lane."""
        policy = self.defaults
        for rule in self.rules:
            if rule.matches(key):
                policy = replace(policy, **rule.values)  # type: ignore[arg-type]  # checked by parse_lanes
        return policy

    def topics(self, default: str) -> frozenset[str]:
        """Every topic that a result may go to."""
        named = (str(rule.values["result_topic"]) for rule in self.rules if "result_topic" in rule.values)
        return frozenset(filter(None, (default, self.defaults.result_topic, *named, *self.result_topics)))


def parse_lanes(document: Mapping[str, object]) -> Lanes:
    """Read a lanes document (the parsed TOML file).

    Args:
        document: ``{"defaults": {...}, "lane": [{...}], "models": [...], "lanes_max": N, "result_topics": [...],
            "backlog_bytes_max": {TOPIC: N}, "account": [{...}]}``.

    Raises:
        ConfigurationError: an unknown key, a wrong type or a limit above the provider's, with the place named.
    """
    if unknown := document.keys() - KEYS:
        raise ConfigurationError(f"lanes file: unknown key {min(unknown)!r}")
    defaults = replace(LanePolicy(), **_values("defaults", document.get("defaults", {})))  # type: ignore[arg-type]  # checked
    rules = []
    for number, entry in enumerate(_list("lane", document.get("lane", []))):
        where = f"lane[{number}]"
        if not isinstance(entry, dict):
            raise ConfigurationError(f"lanes file: {where} must be a table")
        values = dict(entry)
        match = {name: values.pop(name, None) for name in ("account", "endpoint", "model")}
        for name in ("account", "model"):
            if not isinstance(match[name], str | None):
                raise ConfigurationError(f"lanes file: {where}.{name} must be a text")
        if match["endpoint"] is not None and match["endpoint"] not in ENDPOINTS:
            raise ConfigurationError(f"lanes file: {where}.endpoint must be one of {', '.join(ENDPOINTS)}")
        rules.append(LaneRule(match["endpoint"], match["model"], _values(where, values), match["account"]))
    models = document.get("models")
    lanes_max = document.get("lanes_max", 200)
    if not isinstance(lanes_max, int) or isinstance(lanes_max, bool) or lanes_max < 1:
        raise ConfigurationError("lanes file: lanes_max must be a whole number from 1")
    return Lanes(
        defaults,
        tuple(rules),
        None if models is None else texts("models", models),
        lanes_max,
        texts("result_topics", document.get("result_topics", [])),
        _backlogs(document.get("backlog_bytes_max", {})),
        parse_accounts(_list("account", document.get("account", [])), ENDPOINTS),
    )


def _backlogs(table: object) -> dict[str, int]:
    if not isinstance(table, Mapping):
        raise ConfigurationError("lanes file: backlog_bytes_max must be a table of request topics")
    for topic, limit in table.items():
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ConfigurationError(f"lanes file: backlog_bytes_max.{topic!r} must be a whole number from 1")
    return dict(table)


def _list(where: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise ConfigurationError(f"lanes file: {where} must be a list")
    return value


def _values(where: str, table: object) -> dict[str, object]:
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"lanes file: {where} must be a table")
    values: dict[str, object] = {}
    for name, value in table.items():
        if name not in POLICY_FIELDS:
            raise ConfigurationError(
                f"lanes file: {where}.{name} is unknown; it takes {', '.join(sorted(POLICY_FIELDS))}"
            )
        text = name in ("name", "completion_window", "result_topic")
        if text != isinstance(value, str) or isinstance(value, bool):
            raise ConfigurationError(f"lanes file: {where}.{name} must be {'a text' if text else 'a number'}")
        if not text:
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigurationError(f"lanes file: {where}.{name} must be above 0")
            if not name.endswith("_seconds") and not name.startswith("usd_") and not isinstance(value, int):
                raise ConfigurationError(f"lanes file: {where}.{name} must be a whole number")
            if value > CEILINGS.get(name, value):
                raise ConfigurationError(f"lanes file: {where}.{name} must be at most {CEILINGS[name]}")
        values[name] = value
    return values
