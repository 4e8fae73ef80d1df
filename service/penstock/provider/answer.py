"""The SDK's objects and errors as ours. The SDK validates nothing: any field can be null or of any type."""

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import httpx2
import openai
import structlog

from penstock.core.batch import BatchError, ProviderBatch
from penstock.core.errors import (
    ProviderDenied,
    ProviderError,
    ProviderInDoubt,
    ProviderMissing,
    ProviderRefused,
    ProviderUnavailable,
)
from penstock.core.refusal import Concern, Refusal, concern_of, line_named
from penstock.provider.reach import place_of, reason_of
from penstock.telemetry import metrics

log = structlog.get_logger()

DETAIL_LENGTH = 300
WORD_LENGTH = 100
"""Codes, statuses and ids are short."""
MILLISECONDS = 10**11
"""No time in seconds is so large before the year 5138; other servers count in milliseconds."""
TEXT_SECONDS_MIN = 10**8
"""A shorter number in a text may be a year; no batch is of before 1973."""
BIGINT_MAX = 2**63 - 1
CONFLICT = 409
NOTHING_DONE = frozenset({429, 498, 529})
"""Answers of a busy provider that has done nothing."""

Mapped = TypeVar("Mapped")


class ProviderFile(NamedTuple):
    """A file at the provider."""

    id: str
    name: str
    bytes: int
    created_at: datetime | None
    """None: not known."""


SPELLINGS = {
    "canceled": "cancelled",
    "canceling": "cancelling",
    "cancellation_requested": "cancelling",
    "cancel_requested": "cancelling",
    "ended": "completed",
    "done": "completed",
    "complete": "completed",
    "succeeded": "completed",
    "success": "completed",
    "finished": "completed",
    "error": "failed",
    "errored": "failed",
    "failure": "failed",
    "timeout_exceeded": "expired",
    "timed_out": "expired",
    "timeout": "expired",
    "queued": "validating",
    "pending": "validating",
    "created": "validating",
    "submitted": "validating",
    "not_started": "validating",
    "running": "in_progress",
    "processing": "in_progress",
    "started": "in_progress",
    "inprogress": "in_progress",
    "finalising": "finalizing",
}
"""Other providers' words for a status, spelled plainly, and OpenAI's."""
STATUS_PREFIX = re.compile("(job|batch)_(state|status)_")
HUMP = re.compile("(?<=[a-z])(?=[A-Z])")


def plain_status(text: str) -> str:
    """A status in OpenAI's spelling: lower case, underscores, its word for what others name otherwise."""
    spelled = re.sub(r"[\s_-]+", "_", HUMP.sub("_", text.strip())).lower()
    spelled = STATUS_PREFIX.sub("", spelled, count=1)
    return SPELLINGS.get(spelled, spelled)


def moment(value: Any) -> datetime | None:
    """The provider's time: Unix seconds or milliseconds, as a number or a text, or ISO 8601; None when it is none."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return from_unix(number) if (number := float(value)) >= TEXT_SECONDS_MIN else None
        with contextlib.suppress(ValueError, OverflowError):
            found = datetime.fromisoformat(value.strip())
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        return None
    return from_unix(value)


def from_unix(seconds: Any) -> datetime | None:
    """A Unix time in seconds or milliseconds; None when it is not one."""
    if not isinstance(seconds, int | float) or seconds <= 0:
        return None
    try:
        return datetime.fromtimestamp(seconds / 1000 if seconds > MILLISECONDS else seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def clean(text: object, length: int) -> str:
    """The provider's words as Postgres takes them: no NUL, no lone surrogate, bounded; absent or null is empty."""
    if text is None:
        return ""
    return str(text)[: 2 * length].replace("\0", "").encode(errors="replace").decode()[:length]


def identity(value: Any) -> str:
    """An object's id, exactly as it came.

    Raises:
        ValueError: it has none that could be asked for again.
    """
    if not isinstance(value, str) or not value or clean(value, WORD_LENGTH) != value:
        raise ValueError("an object without a usable id")
    return value


def count(value: Any) -> int:
    """A number of the provider's, such as tokens; 0 when it is none."""
    return min(max(int(value), 0), BIGINT_MAX) if isinstance(value, int) else 0


def readable(kind: str, read: Callable[[Any], Mapped], page: list[Any] | None) -> list[Mapped]:
    """The objects of a page that can be mapped; each of the others is counted, and keeps none from being seen."""
    found = []
    for each in page or []:
        try:
            found.append(read(each))
        except Exception as error:  # noqa: BLE001 - whatever one object holds, the others are seen
            metrics.objects_unreadable.labels(kind).inc()
            log.warning("object.unreadable", kind=kind, error=type(error).__name__)
    return found


def provider_file(file: Any) -> ProviderFile:
    """The SDK's object as ours."""
    return ProviderFile(
        identity(file.id), clean(file.filename, DETAIL_LENGTH), count(file.bytes), moment(file.created_at)
    )


def provider_batch(batch: Any) -> ProviderBatch:
    """The SDK's object as ours. It validates nothing: any field can be null or of any type, an empty text means absent.

    Raises:
        ValueError: it has no id.
    """
    usage, errors = getattr(batch, "usage", None), getattr(getattr(batch, "errors", None), "data", None)
    metadata = getattr(batch, "metadata", None)
    return ProviderBatch(
        id=identity(getattr(batch, "id", None)),
        status=plain_status(clean(batch.status, WORD_LENGTH)) or "unknown",
        created_at=moment(batch.created_at),
        expires_at=moment(batch.expires_at),
        output_file_id=clean(batch.output_file_id, WORD_LENGTH) or None,
        error_file_id=clean(batch.error_file_id, WORD_LENGTH) or None,
        errors=tuple(batch_error(each) for each in errors if each is not None) if isinstance(errors, list) else (),
        metadata={str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {},
        input_tokens=count(getattr(usage, "input_tokens", None)),
        cached_tokens=count(getattr(getattr(usage, "input_tokens_details", None), "cached_tokens", None)),
        output_tokens=count(getattr(usage, "output_tokens", None)),
        input_file_id=clean(getattr(batch, "input_file_id", None), WORD_LENGTH) or None,
        executed=executed(getattr(batch, "request_counts", None)),
    )


def executed(counts: Any) -> int | None:
    """How many requests of a batch were executed, by its request counts; None when they do not say."""
    completed, failed = getattr(counts, "completed", None), getattr(counts, "failed", None)
    if not isinstance(completed, int) and not isinstance(failed, int):
        return None
    return count(completed) + count(failed)


def batch_error(error: Any) -> BatchError:
    """One reason of a refusal."""
    line = getattr(error, "line", None)
    return BatchError(
        clean(getattr(error, "code", None), WORD_LENGTH) or "unknown",
        clean(getattr(error, "message", None), DETAIL_LENGTH),
        line if isinstance(line, int) else None,
    )


def map_error(operation: str, error: Exception, base_url: str, *, creates: bool) -> ProviderError:
    """The SDK's exceptions by what the caller does about them.

    A create whose connection was never made took no effect; any other lost answer or 5xx leaves it in doubt.
    """
    if isinstance(error, openai.APIStatusError):
        return map_status(operation, error, creates=creates)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        cause = cause.__cause__
    detail = f"{place_of(base_url)}: {reason_of(error)}"
    return ProviderInDoubt(operation, detail) if creates and cause is None else ProviderUnavailable(operation, detail)


def map_status(operation: str, error: openai.APIStatusError, *, creates: bool) -> ProviderError:
    """An HTTP error by what it concerns (`penstock.core.refusal`)."""
    status = error.status_code
    body = error.body if isinstance(error.body, dict) else {}
    code = clean(body.get("code"), WORD_LENGTH) or str(status)
    detail = clean(body.get("message") or error.message, DETAIL_LENGTH)
    line = line_named(body)
    concern = concern_of(Refusal(operation, status, code, detail, line))
    if concern is Concern.CONFIGURATION:
        host = httpx2.URL(error.response.headers.get("location", "")).host or "no host"
        return ProviderDenied(operation, f"HTTP {status} redirects to {host}; set the base URL to it", code="redirect")
    if concern is Concern.ACCOUNT:
        return ProviderDenied(operation, detail, code=code)
    if concern is Concern.OBJECT:
        return ProviderMissing(operation, detail, code=code)
    if concern is Concern.MOMENT:
        after = error.response.headers.get("retry-after", "")
        seconds = float(after) if after.replace(".", "", 1).isdecimal() else None
        in_doubt = creates and status not in NOTHING_DONE
        kind = ProviderInDoubt if in_doubt else ProviderUnavailable
        return kind(operation, detail, code=str(status), retry_after_seconds=seconds)
    return ProviderRefused(operation, detail, code="409" if status == CONFLICT else code, concern=concern, line=line)
