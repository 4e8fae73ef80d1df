"""A provider as bad as the weather: it refuses, expires, loses lines, fails, forgets and limits tokens."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.core.batch import BatchError
from tests.simulation.scenario import AWAY, CALM, HOUR, Scenario, Weather, number_of

WINDOW_SECONDS = 24 * HOUR
STALE_SECONDS = 60.0
LATE_SECONDS = 100.0
"""A create whose answer was lost lands within this, sooner than the client's own time-out and grace."""


@dataclass(slots=True, eq=False)
class Remote:
    """A batch at the provider."""

    number: int
    create: int
    model: str
    lines: list[bytes]
    tokens: int
    created_at: float
    validated_at: float
    ends_at: float
    end: str
    error: BatchError | None
    forgotten: bool
    cancelled_at: float = math.inf
    numbers: list[int] = field(default_factory=list)
    """Of its requests, by line."""
    successes: set[int] | None = None
    """The requests that were paid for; None until it has ended."""
    files: tuple[list[bytes], list[bytes]] = ([], [])
    """Lines of the output and the error file."""
    lost: bool = False

    def status(self, now: float) -> str:
        """What the provider says of it."""
        if now >= self.ends_at:
            return self.end
        if self.cancelled_at <= now:
            return "cancelling"
        if now < self.validated_at:
            return "validating"
        return "in_progress" if now < self.ends_at - 30 else "finalizing"


class Provider:
    """The account's batches."""

    def __init__(self, scenario: Scenario, chance: random.Random) -> None:
        self.scenario = scenario
        self.chance = chance
        self.batches: list[Remote] = []
        self.executed = [0] * len(scenario.natures)
        """How often each request was paid for."""
        self.away_from = self.away_until = math.inf

    def is_away(self, now: float) -> bool:
        """Whether no call is answered."""
        return self.away_from <= now < self.away_until

    def weather(self, now: float) -> Weather:
        """The weather of the hour."""
        if self.is_away(now):
            return AWAY
        return self.scenario.weather if now < self.scenario.calm_at else CALM

    def create(self, now: float, create: int, model: str, lines: list[bytes], tokens: int) -> Remote:
        """A batch that was created now, with its fate."""
        chance, weather = self.chance, self.weather(now)
        numbers = [number_of(line) for line in lines]
        validated_at = now + chance.uniform(2, 300)
        error = self.refusal(now, weather, model, numbers, tokens)
        end, ends_at = "completed", validated_at + chance.uniform(60, (20 * HOUR) if self.scenario.slow else 1800)
        if error is not None:
            end, ends_at = "failed", validated_at
        elif chance.random() < weather.expires:
            end, ends_at = "expired", now + WINDOW_SECONDS
        elif chance.random() < weather.stuck:
            ends_at = math.inf
        forgotten = chance.random() < weather.forgotten
        remote = Remote(
            len(self.batches), create, model, lines, tokens, now, validated_at, ends_at, end, error, forgotten
        )
        remote.numbers = numbers
        self.batches.append(remote)
        return remote

    def refusal(
        self, now: float, weather: Weather, model: str, numbers: Sequence[int], tokens: int
    ) -> BatchError | None:
        """Why validation fails, if it does."""
        chance = self.chance
        limit = self.scenario.token_limits.get(model)
        if limit is not None:
            enqueued = sum(each.tokens for each in self.batches if each.model == model and now < each.ends_at)
            if enqueued + tokens > limit:
                named = f" Limit: {limit:,} enqueued tokens." if self.scenario.limit_named else ""
                return BatchError("token_limit_exceeded", f"Enqueued token limit reached.{named}", None)
        if chance.random() < weather.refused_ours:
            return BatchError("duplicate_custom_id", "A custom_id stands twice.", 1)
        if chance.random() < weather.refused_shared:
            return BatchError("model_not_found", "No such model.", 1)
        if chance.random() < weather.refused_nameless:
            return BatchError("server_error", "Something went wrong.", None)
        for line, number in enumerate(numbers):
            if self.scenario.natures[number].poison:
                return BatchError("invalid_request", "The line is not valid.", line + 1)
        return None

    def cancel(self, remote: Remote, now: float) -> None:
        """Told to stop; some end soon, some never."""
        if remote.status(now) in ("validating", "in_progress", "finalizing"):
            remote.cancelled_at = now
            ends_at = now + self.chance.uniform(1, 4000) if self.chance.random() < 0.6 else math.inf
            remote.end, remote.ends_at = "cancelled", ends_at

    def finish(self, remote: Remote) -> None:
        """Execute the lines of a batch that has ended, once."""
        if remote.successes is not None or remote.end == "failed":
            return
        remote.successes = set()
        weather = self.weather(remote.created_at)
        whole = remote.end == "completed"
        output, errors = remote.files = ([], [])
        for line, number in zip(remote.lines, remote.numbers, strict=True):
            wire = line[14 : line.index(b'"', 14)]
            if not whole and self.chance.random() < 0.5:
                if self.chance.random() < 0.5:
                    errors.append(answer(wire, b"null", b'{"code":"batch_expired"}'))
                continue
            if self.chance.random() < weather.line_missing:
                continue
            if self.scenario.natures[number].bad:
                errors.append(answer(wire, b'{"status_code":400,"body":{"n":%d}}' % number, b"null"))
            elif self.chance.random() < weather.line_fails:
                status = self.chance.choice((429, 500, 503))
                errors.append(answer(wire, b'{"status_code":%d,"body":{"n":%d}}' % (status, number), b"null"))
                if self.chance.random() < 0.1:  # an error and a success for the same request
                    self.succeed(remote, wire, number)
            else:
                self.succeed(remote, wire, number)
        self.scramble(output, errors)

    def succeed(self, remote: Remote, wire: bytes, number: int) -> None:
        """Execute a request, for money."""
        assert remote.successes is not None
        remote.successes.add(number)
        self.executed[number] += 1
        remote.files[0].append(answer(wire, b'{"status_code":200,"body":{"n":%d}}' % number, b"null"))

    def scramble(self, output: list[bytes], errors: list[bytes]) -> None:
        """Shuffle, repeat and add lines, as real files have it."""
        mood = self.chance.random()
        if mood < 0.3:
            self.chance.shuffle(output)
        elif mood < 0.4 and output:
            output.append(output[0])
        elif mood < 0.5:
            errors += [b"{not json", answer(b"0" * 32 + b"-0", b'{"status_code":200,"body":{}}', b"null"), b""]


def answer(wire: bytes, response: bytes, error: bytes) -> bytes:
    """A line of an output or error file."""
    return b'{"id":"b","custom_id":"%b","response":%b,"error":%b}' % (wire, response, error)
