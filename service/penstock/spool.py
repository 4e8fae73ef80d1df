"""Disk space for uploads and downloads, reserved from a byte budget before a byte is written."""

import asyncio
import contextlib
import fcntl
import re
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

import structlog

from penstock.files import reading
from penstock.settings import SpoolSettings
from penstock.telemetry import metrics
from penstock.telemetry.failpoint import failpoint
from penstock.variables import variable

log = structlog.get_logger()

LOCK = "lock"
FOLDER = re.compile("[0-9a-f]{32}")
"""Folders of replicas, by their ids; anything else is not ours."""


P = ParamSpec("P")
R = TypeVar("R")


@failpoint("spool.lines")
async def off_loop(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do in a thread what reads many lines of the spool."""
    return await asyncio.to_thread(work, *args, **kwargs)


class Budget:
    """Bytes that may be taken at a time; one taker may exceed it alone, so that nothing waits for ever."""

    def __init__(self, direction: str, bytes_max: int) -> None:
        self.direction = direction
        self.bytes_max = bytes_max
        self.taken = 0
        self.freed = asyncio.Condition()
        metrics.spool_bytes.labels(self.direction).set(0)
        metrics.spool_limit.labels(self.direction).set(bytes_max)

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
        replica: this process; what another process has is not touched while it lives.
    """

    def __init__(self, settings: SpoolSettings, replica: uuid.UUID) -> None:
        self.root = settings.folder
        self.folder = settings.folder / replica.hex
        self.lock: IO[bytes] | None = None
        self.uploads = Budget("upload", settings.upload_bytes_max)
        self.downloads = Budget("download", settings.download_bytes_max)

    def open(self) -> None:
        """Make the folder, lock it for this process' life, and remove what killed processes left.

        Raises:
            FileUnreadable: it cannot be written.
            OSError: another process has it.
        """
        with reading(variable(("spool", "folder")), self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            starting = (self.root / LOCK).open("wb")
        with starting:
            fcntl.flock(starting, fcntl.LOCK_EX)  # a folder is locked as soon as another process may look at it
            self.folder.mkdir(exist_ok=True, mode=0o700)
            lock = (self.folder / LOCK).open("wb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                raise
            self.lock = lock
            for folder in self.root.iterdir():
                if folder != self.folder and FOLDER.fullmatch(folder.name):
                    self.remove_leftover(folder)

    def remove_leftover(self, folder: Path) -> None:
        """Remove another process' folder, unless that process lives or the folder is not ours to touch."""
        with contextlib.suppress(OSError), (folder / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            log.info("spool.leftover_removed", folder=folder.name)

    async def measure(self) -> None:
        """Show how much room its disk has; that may take long where the disk is across a network."""
        usage = await asyncio.to_thread(shutil.disk_usage, self.folder)
        metrics.spool_free.set(usage.free)

    def path(self, name: str) -> Path:
        """A file of this process."""
        return self.folder / name

    def close(self) -> None:
        """Remove everything."""
        if self.lock is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.lock.close()
            self.lock = None
