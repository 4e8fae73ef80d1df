"""The one retry policy: exponential, full jitter, bounded. The random number is passed in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from ``first_seconds`` up to ``last_seconds``."""

    first_seconds: float
    last_seconds: float

    def delay_seconds(self, attempt: int, chance: float) -> float:
        """The delay before try ``attempt`` + 1.

        Args:
            attempt: tries that failed so far, from 1.
            chance: a random number in [0, 1): the upper half of the delay is jitter.
        """
        exponent = min(max(attempt, 1) - 1, 30)
        full = min(self.first_seconds * 2.0**exponent, self.last_seconds)
        return full * (0.5 + 0.5 * chance)


CALL = Backoff(1.0, 60.0)
"""A stage's next round after a failed call to Kafka, Postgres or the provider."""

SUBMISSION = Backoff(15.0, 1800.0)
"""A batch that the provider did not take: quota, rate limit, a transient refusal."""
