"""A database that is there and does nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from penstock.embedded.postgres import EmbeddedPostgres


@asynccontextmanager
async def stalled(postgres: EmbeddedPostgres) -> AsyncIterator[None]:
    """Stop every process of the server, and let them go on at the end."""
    assert postgres.process is not None, "the server runs"
    server = psutil.Process(postgres.process.pid)
    processes = [server, *server.children(recursive=True)]  # the first one stops before it can start others
    for each in processes:
        each.suspend()
    try:
        yield
    finally:
        for each in reversed(processes):
            each.resume()
