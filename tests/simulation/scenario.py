"""What a seed draws before the world begins: lanes, limits, messages and how bad the weather is."""

import random
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from penstock.core.chunk import Headers
from penstock.core.lane import EMBEDDINGS, LaneKey, LanePolicy, LaneRule, Lanes
from penstock.core.turn import SHARE_REQUESTS

START = 1_700_000_000.0
HOUR = 3600.0
ACCOUNT = "main"
PRIORITIES = (b"high", b"normal", b"low")


@dataclass(slots=True)
class Weather:
    """How likely each fault is, per call, batch, line or step."""

    create_lost: float
    create_refused: float
    create_unavailable: float
    line_fails: float
    line_missing: float
    expires: float
    stuck: float
    forgotten: float
    refused_shared: float
    refused_nameless: float
    refused_ours: float
    unseen: float
    file_lost: float
    crash: float
    stage_down: float


WORST = Weather(0.5, 0.3, 0.4, 0.7, 0.3, 0.3, 0.2, 0.1, 0.1, 0.3, 0.1, 0.5, 0.1, 0.4, 0.4)
CALM = Weather(*[0.0] * len(fields(Weather)))
AWAY = replace(CALM, create_unavailable=1.0, unseen=1.0)


@dataclass(slots=True)
class Message:
    """A Kafka record of a request topic."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True)
class Nature:
    """What is true of a request whatever the weather."""

    valid: bool
    poison: bool
    """Refused at validation, with its line."""
    bad: bool
    """Answered with status 400."""
    deadline_seconds: float
    tenant: str = ""
    priority: int = 1


@dataclass(slots=True)
class Scenario:
    """A world to be."""

    lanes: Lanes
    creates_per_hour: int
    token_limits: dict[str, int]
    """The provider's true limits, by model."""
    limit_named: bool
    token_factor: float
    """Real tokens of a nominal one."""
    polls: list[tuple[float, list[Message]]]
    natures: list[Nature]
    """By offset."""
    weather: Weather
    calm_at: float
    slow: bool
    """Batches take hours rather than minutes."""
    transaction_records: int
    share_requests: int
    """Of fewer a gathering makes no chunk of their own, and tenants take turns in the one that they share."""


def draw(chance: random.Random) -> Scenario:
    """The scenario of a seed."""
    pick = chance.choice
    weather = Weather(
        *[pick((0.0, 0.0, worst, worst / 4)) for worst in (getattr(WORST, f.name) for f in fields(WORST))]
    )
    weather = Weather(*[chance.random() * each for each in (getattr(weather, f.name) for f in fields(weather))])
    keys = [
        LaneKey(ACCOUNT, EMBEDDINGS if chance.random() < 0.3 else "/v1/responses", f"m{number}", "24h")
        for number in range(pick((1, 1, 2, 3)))
    ]
    rules = []
    token_limits = {}
    for key in keys:
        true_limit = pick((None, None, chance.randint(12, 60), chance.randint(60, 400)))
        if true_limit is not None:
            token_limits[key.model] = true_limit
        values: dict[str, object] = {
            "requests_max": pick((1, 3, 10, 50_000)),
            "bytes_max": pick((chance.randint(100, 1000), 200_000_000, 200_000_000)),
            "inputs_max": pick((4, 50_000)),
            "age_max_seconds": pick((60.0, 300.0, 3600.0)),
            "attempts_max": pick((1, 2, 4)),
            "deadline_seconds": pick((HOUR, 12 * HOUR, 48 * HOUR)),
        }
        if true_limit is not None and chance.random() < 0.5:
            values["enqueued_tokens_max"] = true_limit
        rules.append(LaneRule(key.endpoint, key.model, values))
    lanes = Lanes(LanePolicy(), tuple(rules))
    natures, polls = messages(chance, keys, lanes)
    return Scenario(
        lanes,
        pick((2, 6, 30, 2000)),
        token_limits,
        chance.random() < 0.7,
        pick((0.6, 1.0, 1.3)),
        polls,
        natures,
        weather,
        START + chance.random() * 36 * HOUR,
        chance.random() < 0.5,
        pick((1, 3, 10_000)),
        pick((1, SHARE_REQUESTS)),
    )


def messages(
    chance: random.Random, keys: list[LaneKey], lanes: Lanes
) -> tuple[list[Nature], list[tuple[float, list[Message]]]]:
    """Requests with what is true of them, in a few polls over some hours."""
    natures: list[Nature] = []
    polls = []
    poison = chance.choice((0.0, 0.0, 0.05, 0.6))
    bad = chance.choice((0.0, 0.1))
    at = START
    tenants, ranks = crowd(chance)
    for _ in range(chance.randint(1, 4)):
        poll = []
        for _ in range(chance.choice((1, 4, 12))):
            key = chance.choice(keys)
            seconds = lanes.policy(key).deadline_seconds
            headers: list[tuple[str, bytes | None]] = []
            if chance.random() < 0.1:
                wish = chance.choice((5.0, 600.0, 5 * HOUR))
                headers.append(("penstock-deadline-seconds", b"%f" % wish))
                seconds = min(seconds, wish)
            tenant, priority = tenants(), ranks()
            if tenant:
                headers.append(("tenant", tenant.encode()))
            if priority is not None:
                headers.append(("penstock-priority", PRIORITIES[priority]))
            nature = Nature(chance.random() > 0.03, chance.random() < poison, chance.random() < bad, seconds, tenant)
            nature.priority = 1 if priority is None or not nature.valid else priority
            poll.append(Message(0, len(natures), int(at * 1000), None, value(chance, key, len(natures)), headers))
            if not nature.valid:
                poll[-1].value = b"not a request"
            natures.append(nature)
        polls.append((at, poll))
        at += chance.choice((1.0, 200.0, HOUR))
    return natures, polls


def crowd(chance: random.Random) -> tuple[Callable[[], str], Callable[[], int | None]]:
    """Who sends: one tenant or several, of which one may send most; and how often a priority is asked for."""
    names = chance.choice((("",), ("", "a"), ("a", "b", "c")))
    most = chance.choice((0.0, 0.8))
    ranked = chance.choice((0.0, 0.0, 0.5))
    return (
        lambda: names[0] if chance.random() < most else chance.choice(names),
        lambda: chance.randrange(3) if chance.random() < ranked else None,
    )


def value(chance: random.Random, key: LaneKey, number: int) -> bytes:
    """A request whose body ends in its number."""
    given = b'"input":[%b],' % b",".join([b'"a"'] * chance.randint(1, 3)) if key.endpoint == EMBEDDINGS else b""
    pad = b"x" * chance.choice((0, 0, 30, 200))
    body = b'{"model":"%b",%b"pad":"%b","n":%d}' % (key.model.encode(), given, pad, number)
    return b'{"custom_id":"r-%d","url":"%b","body":%b}' % (number, key.endpoint.encode(), body)


def number_of(line: bytes) -> int:
    """The number in which the body of a line ends."""
    return int(line[line.rindex(b":") + 1 : line.index(b"}", line.rindex(b":"))])
