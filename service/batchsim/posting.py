"""One HTTP POST to a url, for webhooks: no redirect is followed, and of the answer only the status is read."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 5.0
PORTS = {"http": 80, "https": 443}


class Unreachable(Exception):
    """Nobody answered in time, or not as HTTP does."""


async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Post a body; returns the status of the answer.

    Raises:
        Unreachable: there is none.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"host: {parts.netloc.rpartition('@')[2]}",
        "connection: close",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or PORTS[parts.scheme], ssl=parts.scheme == "https" or None
            )
            try:
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
                return status_of(await reader.readline())
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError) as error:
        raise Unreachable(str(error)) from error


def status_of(line: bytes) -> int:
    """The status in the first line of an answer.

    Raises:
        ValueError: it is none.
    """
    version, status, *_ = line.split(maxsplit=2)
    if not version.startswith(b"HTTP/"):
        raise ValueError("the answer is not HTTP")
    return int(status)


def is_url(text: str) -> bool:
    """Whether a text is a url that can be posted to."""
    try:
        parts = urlsplit(text)
        return parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
