"""The Batch API of one account."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
from openai import AsyncOpenAI
from openai.types import Batch

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

PAGE = 100
FILES_PAGE = 10_000
CONNECT_SECONDS = 5.0
BLOCK_BYTES = 256 * 1024
DETAIL_LENGTH = 300
READ_RETRIES = 2


class ProviderFile(NamedTuple):
    """A file at the provider."""

    id: str
    name: str
    bytes: int
    created_at: datetime


class ProviderClient:
    """Calls of one account. Reads are retried by the SDK; a create is sent once and never again (B2).

    Args:
        settings: where, and with which key; the key is read again after a 401.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self.sdk = self.connect()

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

    async def call(self, operation: str, call: Callable[[], Awaitable[Any]], *, creates: bool = False) -> Any:
        """Run a call, map its errors, count and time it.

        Args:
            operation: its name in metrics and errors.
            call: makes the call on the client as it is now.
            creates: its effect may have happened although its answer is an error or is lost.
        """
        started = time.monotonic()
        try:
            answer = await call()
        except openai.OpenAIError as error:
            mapped = map_error(operation, error, creates=creates)
            metrics.provider_calls.labels(operation, type(mapped).__name__).inc()
            if isinstance(mapped, ProviderDenied):
                await self.renew()
            raise mapped from error
        metrics.provider_calls.labels(operation, "ok").inc()
        metrics.provider_call_seconds.labels(operation).observe(time.monotonic() - started)
        return answer

    async def renew(self) -> None:
        """Take up a rotated key."""
        if (self.settings.read_api_key() or "none") != self.sdk.api_key:
            old, self.sdk = self.sdk, self.connect()
            await old.close()

    @failpoint("files.create")
    async def upload(self, path: Path, name: str, size_bytes: int) -> str:
        """Upload a batch input file; returns its id.

        The time-out is per read and write; the caller's lease bounds the whole.
        """

        async def send() -> Any:
            with path.open("rb") as file:
                return await self.sdk.files.create(
                    file=(name, file),
                    purpose="batch",
                    expires_after={"anchor": "created_at", "seconds": self.settings.file_expires_seconds},
                )

        answer = await self.call("files.create", send)
        if answer.bytes != size_bytes:
            raise ProviderUnavailable("files.create", f"{answer.bytes} bytes arrived of {size_bytes}")
        return str(answer.id)

    @failpoint("files.list")
    async def files(self) -> AsyncIterator[ProviderFile]:
        """Every batch input file of the account, newest first."""
        page = await self.call(
            "files.list", lambda: self.sdk.files.list(purpose="batch", order="desc", limit=FILES_PAGE)
        )
        return self.walk_files(page)

    async def walk_files(self, page: Any) -> AsyncIterator[ProviderFile]:
        """The files of this page and those after it."""
        while True:
            for file in page.data:
                yield ProviderFile(file.id, file.filename, file.bytes, moment(file.created_at))
            if not page.has_next_page():
                return
            page = await self.call("files.list", page.get_next_page)

    @failpoint("files.retrieve")
    async def file_bytes(self, file_id: str) -> int:
        """A file's size in bytes."""
        answer = await self.call("files.retrieve", lambda: self.sdk.files.retrieve(file_id))
        return int(answer.bytes)

    @failpoint("files.delete")
    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that is gone is fine."""
        try:
            await self.call("files.delete", lambda: self.sdk.files.delete(file_id))
        except ProviderMissing:
            return

    @asynccontextmanager
    async def content(self, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A file's bytes, in blocks as they arrive."""
        try:
            async with self.sdk.files.with_streaming_response.content(file_id) as answer:
                yield answer.iter_bytes(BLOCK_BYTES)
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            mapped = map_error("files.content", error, creates=False)
            metrics.provider_calls.labels("files.content", type(mapped).__name__).inc()
            raise mapped from error
        metrics.provider_calls.labels("files.content", "ok").inc()

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
        return provider_batch(answer)

    @failpoint("batches.retrieve")
    async def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """One batch, fresh."""
        return provider_batch(await self.call("batches.retrieve", lambda: self.sdk.batches.retrieve(provider_batch_id)))

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
        batches = [provider_batch(each) for each in answer.data]
        return batches, batches[-1].id if batches and answer.has_more else None

    async def back_to(self, moment_: datetime) -> list[ProviderBatch]:
        """Every batch created at this moment or later; complete, or it raises (B3)."""
        found: list[ProviderBatch] = []
        after: str | None = None
        while True:
            batches, after = await self.page(after)
            found += batches
            if after is None or batches[-1].created_at < moment_:
                return found


def moment(seconds: int) -> datetime:
    """The provider's Unix seconds as a time."""
    return datetime.fromtimestamp(seconds, UTC)


def provider_batch(batch: Batch) -> ProviderBatch:
    """The SDK's object as ours. It validates nothing: any field can be null, an empty text means absent."""
    usage: Any = batch.usage
    errors = batch.errors.data if batch.errors and batch.errors.data else []
    return ProviderBatch(
        id=batch.id,
        status=batch.status or "unknown",
        created_at=moment(batch.created_at or 0),
        expires_at=moment(batch.expires_at) if batch.expires_at else None,
        output_file_id=batch.output_file_id or None,
        error_file_id=batch.error_file_id or None,
        errors=tuple(BatchError(e.code or "unknown", (e.message or "")[:DETAIL_LENGTH], e.line) for e in errors),
        metadata=dict(batch.metadata or {}),
        input_tokens=(usage.input_tokens or 0) if usage else 0,
        cached_tokens=(usage.input_tokens_details.cached_tokens or 0) if usage and usage.input_tokens_details else 0,
        output_tokens=(usage.output_tokens or 0) if usage else 0,
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
    code = str(body.get("code") or status)
    detail = str(body.get("message") or error.message)[:DETAIL_LENGTH]
    if status in (401, 403):
        return ProviderDenied(operation, detail, code=code)
    if status == 404:  # noqa: PLR2004 - HTTP's own
        return ProviderMissing(operation, detail, code=code)
    if status == 429:  # noqa: PLR2004 - HTTP's own
        after = error.response.headers.get("retry-after", "")
        seconds = float(after) if after.replace(".", "", 1).isdigit() else None
        return ProviderUnavailable(operation, detail, code="429", retry_after_seconds=seconds)
    if status >= 500 or status == 408:  # noqa: PLR2004 - HTTP's own
        kind = ProviderInDoubt if creates else ProviderUnavailable
        return kind(operation, detail, code=str(status))
    return ProviderRefused(operation, detail, code="409" if status == 409 else code)  # noqa: PLR2004 - HTTP's own
