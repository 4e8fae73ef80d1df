"""Disk space for uploads and downloads, reserved from a byte budget before a byte is written."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from penstock.settings import SpoolSettings
from penstock.telemetry import metrics


class Budget:
    """Bytes that may be taken at a time; one taker may exceed it alone, so that nothing waits for ever."""

    def __init__(self, direction: str, bytes_max: int) -> None:
        self.direction = direction
        self.bytes_max = bytes_max
        self.taken = 0
        self.freed = asyncio.Condition()

    @asynccontextmanager
    async def take(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold so many bytes; waits until they are free."""
        async with self.freed:
            await self.freed.wait_for(lambda: not self.taken or self.taken + size_bytes <= self.bytes_max)
            self.taken += size_bytes
            metrics.spool_bytes.labels(self.direction).set(self.taken)
        try:
            yield
        finally:
            async with self.freed:
                self.taken -= size_bytes
                metrics.spool_bytes.labels(self.direction).set(self.taken)
                self.freed.notify_all()


class Spool:
    """This process' folder on disk; uploads and downloads have budgets of their own.

    Args:
        settings: folder and budgets.
        replica: this process; what another process left is not touched.
    """

    def __init__(self, settings: SpoolSettings, replica: uuid.UUID) -> None:
        self.folder = settings.folder / replica.hex
        self.uploads = Budget("upload", settings.upload_bytes_max)
        self.downloads = Budget("download", settings.download_bytes_max)

    def open(self) -> None:
        """Make the folder.

        Raises:
            OSError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str) -> Path:
        """A file of this process."""
        return self.folder / name

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
