"""The state folder: where each thing lies on disk."""

import fcntl
import os
from pathlib import Path
from typing import IO


class StateFolder:
    """A folder that one process at a time holds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        self.inputs = root / "inputs"
        self.scratch = root / "scratch"
        self.lock: IO[bytes] | None = None

    def open(self) -> None:
        """Make the folder and take it; what a dead process left half-written goes.

        Raises:
            BlockingIOError: when another process holds it.
        """
        for folder in (self.root, self.files, self.inputs, self.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        self.lock = (self.root / "lock").open("wb")
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for leftover in self.scratch.iterdir():
            leftover.unlink()

    def close(self) -> None:
        """Let the folder go."""
        if self.lock is not None:
            self.lock.close()

    @property
    def database(self) -> Path:
        """The SQLite database of all objects."""
        return self.root / "state.sqlite"

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.root / "journal.jsonl"

    def file(self, file_id: str) -> Path:
        """The bytes of a file object."""
        return self.files / file_id

    def reordered(self, file_id: str) -> Path:
        """The bytes that later downloads of a file show, where a fault rule says so."""
        return self.files / f"{file_id}.reordered"

    def input(self, batch_id: str) -> Path:
        """The input of a batch that runs: a link to the file's bytes, which deleting the file does not touch."""
        return self.inputs / batch_id

    def place(self, source: Path, target: Path) -> None:
        """Move a synced file to its place, durably."""
        source.replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
