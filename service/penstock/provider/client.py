"""The Batch API of one account."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx2
import openai
import structlog
from openai import AsyncOpenAI

from penstock.core.batch import BatchError, ProviderBatch
from penstock.core.errors import (
    ProviderDenied,
    ProviderError,
    ProviderInDoubt,
    ProviderMissing,
    ProviderRefused,
    ProviderUnavailable,
)
from penstock.settings import ProviderSettings
from penstock.telemetry import metrics
from penstock.telemetry.failpoint import failpoint

log = structlog.get_logger()

PAGE = 100
PAGES_MAX = 1000
"""A scan of more pages than this is not complete: twice what the hourly limit of creates fills in a day."""
FILES_PAGE = 10_000
CONNECT_SECONDS = 5.0
AWAY_SECONDS = 900.0
"""Longer than any pause between two calls of one that has something to ask."""
BLOCK_BYTES = 256 * 1024
DETAIL_LENGTH = 300
WORD_LENGTH = 100
"""Codes, statuses and ids are short."""
MILLISECONDS = 10**11
"""No time in seconds is so large before the year 5138; other servers count in milliseconds."""
BIGINT_MAX = 2**63 - 1
READ_RETRIES = 2


Mapped = TypeVar("Mapped")


class ProviderFile(NamedTuple):
    """A file at the provider."""

    id: str
    name: str
    bytes: int
    created_at: datetime | None
    """None: not known."""


class WatchedFile(io.FileIO):
    """A file that says when it is read: an upload's only sign of life."""

    def __init__(self, path: Path, moved: Callable[[], None]) -> None:
        super().__init__(path)
        self.moved = moved

    def read(self, size: int | None = -1) -> bytes:
        """Read, and say so."""
        self.moved()
        return super().read(size)


class ProviderClient:
    """Calls of one account. Reads are retried by the SDK; a create is sent once and never again (B2).

    No call takes longer than the time-out, the SDK's retries and pauses among them: whoever calls holds a lease.

    Args:
        settings: where, and with which key; the key is read again after a 401.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self.keys = 1
        """How many keys it has had."""
        self.sdk = self.connect()
        self.unanswered_at = float("-inf")
        metrics.provider_away.labels(settings.account).set_function(self.away)

    def connect(self) -> AsyncOpenAI:
        """A client with the key as it is now."""
        return AsyncOpenAI(
            api_key=self.settings.read_api_key() or "none",
            base_url=self.settings.base_url,
            organization=self.settings.organization,
            project=self.settings.project,
            max_retries=READ_RETRIES,
            timeout=httpx2.Timeout(self.settings.timeout_seconds, connect=CONNECT_SECONDS),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.sdk.close()

    async def call(
        self,
        operation: str,
        call: Callable[[], Awaitable[Any]],
        *,
        creates: bool = False,
        seconds: float | None = None,
    ) -> Any:
        """Run a call, map its errors, count and time it.

        Args:
            operation: its name in metrics and errors.
            call: makes the call on the client as it is now.
            creates: its effect may have happened although its answer is an error or is lost.
            seconds: what it may take in all; the settings' time-out when not given.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(seconds or self.settings.timeout_seconds):
                answer = await call()
            if isinstance(answer, str):
                raise ValueError("no JSON")  # noqa: TRY301, TRY004 - as the SDK says of other answers that are none
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            mapped = map_error(operation, error, creates=creates)
            self.count(operation, mapped)
            if isinstance(mapped, ProviderDenied):
                self.renew()
            raise mapped from error
        self.count(operation)
        metrics.provider_call_seconds.labels(operation).observe(time.monotonic() - started)
        return answer

    def count(self, operation: str, error: ProviderError | None = None) -> None:
        """Count a call, and note whether the provider is there: any answer but a 5xx says so."""
        status = type(error).__name__ if error else "ok"
        metrics.provider_calls.labels(self.settings.account, operation, status).inc()
        away = isinstance(error, ProviderUnavailable | ProviderInDoubt) and error.code != "429"
        self.unanswered_at = time.monotonic() if away else float("-inf")

    def away(self) -> float:
        """1 while the last call was not answered; who has not called for long no longer knows."""
        return float(time.monotonic() - self.unanswered_at < AWAY_SECONDS)

    def renew(self) -> None:
        """Take up a rotated key, for the next request; those under way are not disturbed."""
        try:
            key = self.settings.read_api_key() or "none"
        except (OSError, ValueError) as error:  # it may be read again when it is denied again
            log.error("key.unreadable", account=self.settings.account, error=type(error).__name__)  # noqa: TRY400 - no trace helps
            return
        if key != self.sdk.api_key:
            self.sdk.api_key = key
            self.keys += 1

    @failpoint("files.create")
    async def upload(self, path: Path, name: str, size_bytes: int, moved: Callable[[], None], *, seconds: float) -> str:
        """Upload a batch input file, in so many seconds at most; returns its id. ``moved`` is called as it is read."""

        async def send() -> Any:
            with WatchedFile(path, moved) as file:
                return await self.sdk.files.create(
                    file=(name, file),
                    purpose="batch",
                    expires_after={"anchor": "created_at", "seconds": self.settings.file_expires_seconds},
                )

        answer = await self.call("files.create", send, seconds=seconds)
        if answer.bytes != size_bytes:
            raise ProviderUnavailable("files.create", f"{answer.bytes} bytes arrived of {size_bytes}")
        return str(answer.id)

    async def files(self) -> AsyncIterator[ProviderFile]:
        """Every batch input file of the account, newest first."""
        page = None
        while page is None or page.has_next_page():
            page = await self.page_of_files(page)
            for file in readable("file", provider_file, page.data):
                yield file

    @failpoint("files.list")
    async def page_of_files(self, before: Any | None) -> Any:
        """The first page of the account's batch input files, or the one after another."""
        first = partial(self.sdk.files.list, purpose="batch", order="desc", limit=FILES_PAGE)
        return await self.call("files.list", first if before is None else before.get_next_page)

    @failpoint("files.retrieve")
    async def file_bytes(self, file_id: str) -> int:
        """A file's size in bytes."""
        answer = await self.call("files.retrieve", lambda: self.sdk.files.retrieve(file_id))
        return count(answer.bytes)

    @failpoint("files.delete")
    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that is gone is fine."""
        try:
            await self.call("files.delete", lambda: self.sdk.files.delete(file_id))
        except ProviderMissing:
            return

    @failpoint("files.content")
    async def download(self, file_id: str, take: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand over a file's bytes, in blocks as they arrive."""
        try:
            once = self.sdk.with_options(max_retries=0)  # the first byte comes within one time-out, or not at all
            async with once.files.with_streaming_response.content(file_id) as answer:
                async for block in answer.iter_bytes(BLOCK_BYTES):
                    await take(block)
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            mapped = map_error("files.content", error, creates=False)
            self.count("files.content", mapped)
            if isinstance(mapped, ProviderDenied):
                self.renew()
            raise mapped from error
        self.count("files.content")

    @failpoint("batches.create")
    async def create(
        self, *, file_id: str, endpoint: str, completion_window: str, metadata: dict[str, str]
    ) -> ProviderBatch:
        """Create a batch: one request, no retry.

        Raises:
            ProviderInDoubt: the batch may exist.
            ProviderUnavailable: it does not; try again later.
            ProviderRefused: it does not and will not.
        """
        answer = await self.call(
            "batches.create",
            lambda: self.sdk.with_options(max_retries=0).batches.create(
                input_file_id=file_id,
                endpoint=endpoint,  # type: ignore[arg-type]  # checked against the allowlist at intake
                completion_window=completion_window,  # type: ignore[arg-type]  # other providers take more than 24h
                metadata=metadata,
                output_expires_after={"anchor": "created_at", "seconds": self.settings.file_expires_seconds},
            ),
            creates=True,
        )
        try:
            return provider_batch(answer)
        except ValueError as error:
            raise ProviderInDoubt("batches.create", str(error)) from error

    @failpoint("batches.retrieve")
    async def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """One batch, fresh."""
        answer = await self.call("batches.retrieve", lambda: self.sdk.batches.retrieve(provider_batch_id))
        try:
            return provider_batch(answer)
        except ValueError as error:
            raise ProviderUnavailable("batches.retrieve", str(error)) from error

    @failpoint("batches.cancel")
    async def cancel(self, provider_batch_id: str) -> None:
        """Ask for a batch to stop. A 409 says that it has stopped already: retrieve and collect."""
        try:
            await self.call("batches.cancel", lambda: self.sdk.batches.cancel(provider_batch_id))
        except ProviderRefused as error:
            if error.code != "409":
                raise

    @failpoint("batches.list")
    async def page(self, after: str | None) -> tuple[list[ProviderBatch], str | None]:
        """A page of up to 100 batches, newest first, and where the next one starts."""
        answer = await self.call(
            "batches.list",
            lambda: self.sdk.batches.list(limit=PAGE, after=after) if after else self.sdk.batches.list(limit=PAGE),
        )
        batches = readable("batch", provider_batch, answer.data)
        if answer.has_more and not batches:
            raise ProviderUnavailable("batches.list", "a page of which nothing can be read")
        return batches, batches[-1].id if answer.has_more else None

    async def back_to(self, moment_: datetime) -> list[ProviderBatch]:
        """Every batch created at this moment or later; complete, or it raises (B3).

        It goes on while any batch of a page is as recent or of an unknown age: a list need not be newest first.
        """
        found: list[ProviderBatch] = []
        after: str | None = None
        for _ in range(PAGES_MAX):
            batches, after = await self.page(after)
            found += batches
            if after is None or all(each.created_at is not None and each.created_at < moment_ for each in batches):
                return found
        raise ProviderUnavailable("batches.list", f"more than {PAGES_MAX} pages")


def moment(seconds: Any) -> datetime | None:
    """The provider's Unix time, in seconds or milliseconds; None when it is not one."""
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
        status=clean(batch.status, WORD_LENGTH) or "unknown",
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
    )


def batch_error(error: Any) -> BatchError:
    """One reason of a refusal."""
    line = getattr(error, "line", None)
    return BatchError(
        clean(getattr(error, "code", None), WORD_LENGTH) or "unknown",
        clean(getattr(error, "message", None), DETAIL_LENGTH),
        line if isinstance(line, int) else None,
    )


def map_error(operation: str, error: Exception, *, creates: bool) -> ProviderError:
    """The SDK's exceptions by what the caller does about them.

    A create whose connection was never made took no effect; any other lost answer or 5xx leaves it in doubt.
    """
    if isinstance(error, openai.APIStatusError):
        return map_status(operation, error, creates=creates)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        cause = cause.__cause__
    if creates and cause is None:
        return ProviderInDoubt(operation, type(error).__name__)
    return ProviderUnavailable(operation, type(error).__name__)


def map_status(operation: str, error: openai.APIStatusError, *, creates: bool) -> ProviderError:
    """An HTTP error by its status."""
    status = error.status_code
    body = error.body if isinstance(error.body, dict) else {}
    code = clean(body.get("code"), WORD_LENGTH) or str(status)
    detail = clean(body.get("message") or error.message, DETAIL_LENGTH)
    if status in (401, 403):
        return ProviderDenied(operation, detail, code=code)
    if status == 404:  # noqa: PLR2004 - HTTP's own
        return ProviderMissing(operation, detail, code=code)
    if status == 429:  # noqa: PLR2004 - HTTP's own
        after = error.response.headers.get("retry-after", "")
        seconds = float(after) if after.replace(".", "", 1).isdecimal() else None
        return ProviderUnavailable(operation, detail, code="429", retry_after_seconds=seconds)
    if status >= 500 or status == 408:  # noqa: PLR2004 - HTTP's own
        kind = ProviderInDoubt if creates else ProviderUnavailable
        return kind(operation, detail, code=str(status))
    return ProviderRefused(operation, detail, code="409" if status == 409 else code)  # noqa: PLR2004 - HTTP's own
