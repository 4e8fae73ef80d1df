"""Lanes: what may share a batch, and the policy of each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from penstock.core.account import AccountRule

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
    """Past it the answer is the error `deadline_exceeded`. It must outlast age and linger; a header may shorten it."""
    enqueued_tokens_max: int | None = None
    """The provider's enqueued-token limit of the model; left out, it is learned from the first failure."""
    usd_per_day_max: float | None = None
    """What one lane may spend on a day of UTC, in US dollars; past it nothing more of it is sealed until the next."""
    result_topic: str = ""
    """Where results go; empty means the deployment's result topic."""


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
                policy = replace(policy, **rule.values)  # type: ignore[arg-type]  # checked by collect_lanes
        return policy

    def topics(self, default: str) -> frozenset[str]:
        """Every topic that a result may go to."""
        named = (str(rule.values["result_topic"]) for rule in self.rules if "result_topic" in rule.values)
        return frozenset(filter(None, (default, self.defaults.result_topic, *named, *self.result_topics)))
