"""The Batch API of one account."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
import structlog
from openai import AsyncOpenAI

from penstock.core.batch import ProviderBatch
from penstock.core.errors import (
    ProviderDenied,
    ProviderError,
    ProviderInDoubt,
    ProviderMissing,
    ProviderRefused,
    ProviderUnavailable,
)
from penstock.files import FileUnreadable
from penstock.provider.answer import ProviderFile, count, map_error, provider_batch, provider_file, readable
from penstock.settings import ProviderSettings
from penstock.telemetry import metrics
from penstock.telemetry.failpoint import failpoint

log = structlog.get_logger()

BATCH_PAGES = (100, 20)
FILE_PAGES = (10_000, 100, 20)
"""Batches and files that are asked for at a time; where the provider refuses so many, the next number is tried."""
PAGES_MAX = 1000
"""A scan of more pages than this is not complete: twice what the hourly limit of creates fills in a day."""
CONNECT_SECONDS = 5.0
AWAY_SECONDS = 900.0
"""Longer than any pause between two calls of one that has something to ask."""
BLOCK_BYTES = 256 * 1024
NO_KEY = "none"
"""What the SDK takes for a key where there is none."""
READ_RETRIES = 2
UNREAD = (ProviderUnavailable, ProviderRefused, ProviderMissing)
REPEATED = "its pages repeat, and it does not say where it ends"


Moved = Callable[[], None]
"""Told that a call moves, which a lease asks for."""


class Listing(NamedTuple):
    """Batches that a list shows."""

    batches: list[ProviderBatch]
    gap: ProviderError | None
    """Why there may be more: then what is not among them proves nothing (B3)."""


def nothing() -> None:
    """For who holds no lease."""


async def drop_key(request: httpx2.Request) -> None:
    """Leave the SDK's stand-in for a key out of a request."""
    request.headers.pop("Authorization", None)


class WatchedFile(io.FileIO):
    """A file that says when it is read: an upload's only sign of life."""

    def __init__(self, path: Path, moved: Moved) -> None:
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
        self.page_sizes = {"batches.list": list(BATCH_PAGES), "files.list": list(FILE_PAGES)}
        """What may still be asked for, largest first."""
        metrics.provider_away.labels(settings.account).set_function(self.away)

    def connect(self) -> AsyncOpenAI:
        """A client with the key as it is now."""
        unsigned = {"request": [drop_key]} if self.settings.auth == "none" else {}
        return AsyncOpenAI(
            api_key=self.read_key(),
            base_url=self.settings.base_url,
            organization=self.settings.organization,
            project=self.settings.project,
            max_retries=READ_RETRIES,
            timeout=httpx2.Timeout(self.settings.timeout_seconds, connect=CONNECT_SECONDS),
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,  # the key stays with the base URL's host
                event_hooks=unsigned,
            ),
        )

    def read_key(self) -> str:
        """The key as it is now; for the SDK there is always one.

        Raises:
            FileUnreadable: its file cannot be read.
        """
        return (None if self.settings.auth == "none" else self.settings.read_api_key()) or NO_KEY

    async def close(self) -> None:
        """Close the connections."""
        await self.sdk.close()

    async def call(
        self,
        operation: str,
        call: Callable[[], Awaitable[Any]],
        *,
        creates: bool = False,
        reads: bool = True,
        seconds: float | None = None,
    ) -> Any:
        """Run a call, map its errors, count and time it.

        Args:
            operation: its name in metrics and errors.
            call: makes the call on the client as it is now.
            creates: its effect may have happened although its answer is an error or is lost.
            reads: its answer is read; of a call that is made for its effect alone it may be empty.
            seconds: what it may take in all; the settings' time-out when not given.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(seconds or self.settings.timeout_seconds):
                answer = await call()
            if reads and isinstance(answer, str):
                raise ValueError("no JSON")  # noqa: TRY301 - as the SDK says of other answers that are none
        except (openai.OpenAIError, TimeoutError, ValueError, AttributeError) as error:  # the last: a list of no JSON
            mapped = map_error(operation, error, self.settings.base_url, creates=creates)
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
            key = self.read_key()
        except FileUnreadable as error:  # it may be read again when it is denied again
            log.error("key.unreadable", account=self.settings.account, error=str(error))  # noqa: TRY400 - no trace helps
            return
        if key != self.sdk.api_key:
            self.sdk.api_key = key
            self.keys += 1

    @failpoint("files.create")
    async def upload(self, path: Path, name: str, size_bytes: int, moved: Moved, *, seconds: float) -> str:
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

    async def files(self, moved: Moved) -> AsyncIterator[ProviderFile]:
        """Every batch input file of the account, newest first; ``moved`` is called for each page.

        Raises:
            ProviderUnavailable: after the last file that can be seen, when the list does not say that it ends there.
        """
        page = None
        first_ids: set[str] = set()
        for _ in range(PAGES_MAX):
            page = await self.page_of_files(page)
            moved()
            files = list(readable("file", provider_file, page.data))
            if files and files[0].id in first_ids:
                raise ProviderUnavailable("files.list", REPEATED)
            for file in files:
                yield file
            if not page.has_next_page():
                return
            first_ids.update(file.id for file in files[:1])
        raise ProviderUnavailable("files.list", f"more than {PAGES_MAX} pages")

    @failpoint("files.list")
    async def page_of_files(self, before: Any | None) -> Any:
        """The first page of the account's batch input files, or the one after another."""
        if before is not None:
            return await self.call("files.list", before.get_next_page)
        return await self.sized(
            "files.list", lambda size: self.sdk.files.list(purpose="batch", order="desc", limit=size)
        )

    async def sized(self, operation: str, ask: Callable[[int], Awaitable[Any]]) -> Any:
        """A page of a list, as large as the provider takes; the size that it takes is remembered.

        Raises:
            ProviderRefused: it takes none of the sizes.
        """
        sizes = self.page_sizes[operation]
        for number, size in enumerate(sizes):
            try:
                page = await self.call(operation, partial(ask, size))
            except ProviderRefused:
                if number == len(sizes) - 1:
                    raise
            else:
                self.page_sizes[operation] = sizes[number:]
                return page
        raise AssertionError("there is always a size")

    @failpoint("files.retrieve")
    async def file_bytes(self, file_id: str) -> int:
        """A file's size in bytes."""
        answer = await self.call("files.retrieve", lambda: self.sdk.files.retrieve(file_id))
        return count(answer.bytes)

    @failpoint("files.delete")
    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that is gone is fine."""
        try:
            await self.call("files.delete", lambda: self.sdk.files.delete(file_id), reads=False)
        except ProviderMissing:
            return

    @failpoint("files.content")
    async def download(self, file_id: str, take: Callable[[bytes], Awaitable[None]]) -> bool:
        """Hand over a file's bytes, in blocks as they arrive.

        Returns:
            Whether the transport proves that they are all that was sent: by their number, or by the end of the last
            chunk. A body that ends with its connection proves nothing.

        Raises:
            ProviderError: they cannot be had, or the connection broke before the proof.
        """
        async with self.content(file_id) as answer:
            async for block in answer.iter_bytes(BLOCK_BYTES):
                await take(block)
            chunked = "chunked" in answer.headers.get("transfer-encoding", "").lower()
            return chunked or "content-length" in answer.headers or answer.http_response.http_version == "HTTP/2"

    @failpoint("files.length")
    async def content_bytes(self, file_id: str) -> int | None:
        """A file's size as its content announces it; None when it comes without. Nothing of it is read."""
        async with self.content(file_id) as answer:
            length = answer.headers.get("content-length", "")
            return int(length) if length.isdecimal() and "content-encoding" not in answer.headers else None

    @asynccontextmanager
    async def content(self, file_id: str) -> AsyncIterator[Any]:
        """A file's content, as its head has come; errors are mapped and counted."""
        try:
            once = self.sdk.with_options(max_retries=0)  # the first byte comes within one time-out, or not at all
            async with once.files.with_streaming_response.content(file_id) as answer:
                yield answer
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            mapped = map_error("files.content", error, self.settings.base_url, creates=False)
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
            await self.call("batches.cancel", lambda: self.sdk.batches.cancel(provider_batch_id), reads=False)
        except ProviderRefused as error:
            if error.code != "409":
                raise

    @failpoint("batches.list")
    async def page(self, after: str | None) -> tuple[list[ProviderBatch], str | None]:
        """A page of batches, newest first, and where the next one starts; None: the provider says that the list ends.

        A list that does not say whether there is more ends with an empty page.
        """
        start: Any = after or openai.omit
        answer = await self.sized("batches.list", lambda size: self.sdk.batches.list(limit=size, after=start))
        batches = readable("batch", provider_batch, answer.data)
        more = bool(answer.data) if answer.has_more is None else answer.has_more
        if more and not batches:
            raise ProviderUnavailable("batches.list", "a page of which nothing can be read")
        return batches, batches[-1].id if more else None

    async def back_to(self, moment_: datetime, moved: Moved = nothing) -> Listing:
        """Every batch created at this moment or later that the list shows. ``moved`` is called for each page.

        It goes on while any batch of a page is as recent or of an unknown age: a list need not be newest first.

        Raises:
            ProviderError: the first page cannot be read, or the account is refused.
        """
        found: dict[str, ProviderBatch] = {}
        after: str | None = None
        for number in range(PAGES_MAX):
            try:
                batches, after = await self.page(after)
            except UNREAD as error:
                if not number:
                    raise
                return Listing(list(found.values()), error)
            moved()
            known = len(found)
            found |= {each.id: each for each in batches}
            if after is None or all(each.created_at is not None and each.created_at < moment_ for each in batches):
                return Listing(list(found.values()), None)
            if len(found) == known:
                return Listing(list(found.values()), ProviderUnavailable("batches.list", REPEATED))
        return Listing(list(found.values()), ProviderUnavailable("batches.list", f"more than {PAGES_MAX} pages"))
