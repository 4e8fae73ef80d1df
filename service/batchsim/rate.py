"""Rate limits, worded and headed as the API does it."""

from batchsim.errors import ApiError

MINUTE_SECONDS = 60
HOUR_SECONDS = 3_600
RETRY_SECONDS = {MINUTE_SECONDS: 1, HOUR_SECONDS: 60}
PERIODS = {MINUTE_SECONDS: "minute", HOUR_SECONDS: "hour"}


def take(what: str, unit: str, limit: int, used: int, period_seconds: int) -> dict[str, str]:
    """Take one of `limit` calls in a period of which `used` are gone; returns the answer's `x-ratelimit-*` headers.

    Raises:
        ApiError: 429 when none is left, with the same headers and a `retry-after`.
    """
    headers = {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(max(0, limit - used - 1)),
        "x-ratelimit-reset-requests": duration(min(used + 1, limit) * period_seconds / max(1, limit)),
    }
    if used < limit:
        return headers
    message = f"Rate limit reached for {what}: {limit} {unit} per {PERIODS[period_seconds]}."
    headers["retry-after"] = str(RETRY_SECONDS[period_seconds])
    raise ApiError(429, message, error_type="requests", code="rate_limit_exceeded", headers=headers)


def duration(seconds: float) -> str:
    """A duration as the headers have it: `12ms`, `1.8s`, `6m0s`, `1h0m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < MINUTE_SECONDS:
        return f"{round(seconds, 3):g}s"
    minutes, rest = divmod(round(seconds), MINUTE_SECONDS)
    hours, minutes = divmod(minutes, MINUTE_SECONDS)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
