"""Where files and batches are kept, so that they survive a kill: SQLite for the objects, a folder for the bytes.

Writes run one after the other in a thread of their own, each in a transaction that is on disk before the call returns.
Reads run on the event loop's thread and see what is committed.
"""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from batchsim.chance import name
from batchsim.folder import StateFolder
from batchsim.journal import Journal, created_line
from batchsim.records import TERMINAL, BatchRecord, EndEvent, FileRecord, Status

Result = TypeVar("Result")

encode = msgspec.json.Encoder().encode
decode_file = msgspec.json.Decoder(FileRecord).decode
decode_batch = msgspec.json.Decoder(BatchRecord).decode
decode_event = msgspec.json.Decoder(EndEvent).decode

TERMINAL_JSON = encode(sorted(TERMINAL)).decode()


class NewFile(NamedTuple):
    """A synced file in the scratch folder that is to become a file object, and its second version, if any."""

    record: FileRecord
    path: Path
    reordered: Path | None = None


class Store:
    """The objects of one state folder; `announces` keeps an event of each batch that ends."""

    def __init__(self, folder: StateFolder, seed: str | None, *, announces: bool = False) -> None:
        self.folder = folder
        self.announces = announces
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self.writer = self.connect()
        self.writer.executescript((files("batchsim") / "schema.sql").read_text())
        self.reader = self.connect()
        self.seed = seed or self.setting("seed", b"").decode() or secrets.token_hex(8)
        with self.transaction() as database:
            write_setting(database, "seed", self.seed.encode())
        self.journal = Journal(folder.journal, int(self.setting("journal_bytes", b"0")))
        self.drop_orphans()

    def connect(self) -> sqlite3.Connection:
        """A connection that syncs every commit."""
        connection = sqlite3.connect(self.folder.database, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def close(self) -> None:
        """Finish the writes under way, then close."""
        self.thread.shutdown()
        self.journal.close()
        self.reader.close()
        self.writer.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed, or taken back if anything is raised."""
        self.writer.execute("BEGIN IMMEDIATE")
        try:
            yield self.writer
            self.writer.execute("COMMIT")
        except BaseException:
            self.writer.execute("ROLLBACK")
            raise

    async def write(
        self, work: Callable[[sqlite3.Connection], Result], journal: Callable[[Result], bytes] | None = None
    ) -> Result:
        """Run the work in a transaction; what `journal` makes of its result is kept if and only if that commits."""

        def run() -> Result:
            before = self.journal.bytes
            try:
                with self.transaction() as database:
                    result = work(database)
                    lines = journal(result) if journal else b""
                    if lines:
                        write_setting(database, "journal_bytes", b"%d" % self.journal.append(lines))
            except BaseException:
                self.journal.take_back(before)
                raise
            return result

        return await asyncio.get_running_loop().run_in_executor(self.thread, run)

    def setting(self, key: str, default: bytes) -> bytes:
        """A value kept by name."""
        row = self.reader.execute("SELECT value FROM setting WHERE name = ?", (key,)).fetchone()
        return bytes(row[0]) if row else default

    async def save_setting(self, key: str, value: bytes) -> None:
        """Keep a value by name."""
        await self.write(lambda database: write_setting(database, key, value))

    def drop_orphans(self) -> None:
        """Delete bytes whose object was never committed, and inputs of batches that are over."""
        known = {row[0] for row in self.reader.execute("SELECT id FROM file")}
        running = {batch.id for batch in self.open_batches()}
        for path in self.folder.files.iterdir():
            if path.name.removesuffix(".reordered") not in known:
                path.unlink()
        for path in self.folder.inputs.iterdir():
            if path.name not in running:
                path.unlink()

    async def add_upload(
        self, path: Path, filename: str, purpose: str, size: int, expires_after_seconds: float | None
    ) -> FileRecord:
        """Make a file object of a synced upload."""

        def work(database: sqlite3.Connection) -> FileRecord:
            now = time.time()
            file_id = "file-" + name(self.seed, "file", next_position(database, "file"))
            expires_at = None if expires_after_seconds is None else now + expires_after_seconds
            record = FileRecord(file_id, filename, purpose, size, now, expires_at)
            self.insert_file(database, NewFile(record, path))
            return record

        return await self.write(work)

    def insert_file(self, database: sqlite3.Connection, new: NewFile) -> None:
        """Put the bytes in place and insert the object, inside a transaction."""
        record = new.record
        self.folder.place(new.path, self.folder.file(record.id))
        if new.reordered is not None:
            self.folder.place(new.reordered, self.folder.reordered(record.id))
        database.execute(
            "INSERT INTO file (id, purpose, created_at, expires_at, record) VALUES (?, ?, ?, ?, ?)",
            (record.id, record.purpose, record.created_at, record.expires_at, encode(record)),
        )

    def file(self, file_id: str) -> FileRecord | None:
        """A file that exists and has not expired."""
        query = "SELECT record FROM file WHERE id = ? AND (expires_at IS NULL OR expires_at > ?)"
        row = self.reader.execute(query, (file_id, time.time())).fetchone()
        return decode_file(row[0]) if row else None

    def files(
        self, *, limit: int, newest_first: bool, purpose: str | None, after: str | None, created_before: float
    ) -> list[FileRecord]:
        """Files in the order of their creation, from behind `after` on."""
        query = """
            SELECT record FROM file
            WHERE (:purpose IS NULL OR purpose = :purpose) AND (expires_at IS NULL OR expires_at > :now)
              AND (:after IS NULL OR position * :sign > (SELECT position * :sign FROM file WHERE id = :after))
              AND created_at <= :created_before
            ORDER BY position * :sign LIMIT :limit
        """
        values = {
            "purpose": purpose,
            "now": time.time(),
            "after": after,
            "sign": -1 if newest_first else 1,
            "created_before": created_before,
            "limit": limit,
        }
        return [decode_file(row[0]) for row in self.reader.execute(query, values)]

    def files_uploaded_since(self, since: float) -> int:
        """How many of the files that are kept were uploaded after a Unix time."""
        query = "SELECT count(*) FROM file WHERE created_at > ? AND purpose <> 'batch_output'"
        return int(self.reader.execute(query, (since,)).fetchone()[0])

    def stored_bytes(self) -> int:
        """The size of all files that have not expired."""
        query = """
            SELECT coalesce(sum(json_extract(CAST(record AS TEXT), '$.bytes')), 0) FROM file
            WHERE expires_at IS NULL OR expires_at > ?
        """
        return int(self.reader.execute(query, (time.time(),)).fetchone()[0])

    async def delete_file(self, file_id: str) -> bool:
        """Delete a file; False when there is none."""

        def work(database: sqlite3.Connection) -> bool:
            return database.execute("DELETE FROM file WHERE id = ?", (file_id,)).rowcount > 0

        deleted = self.file(file_id) is not None and await self.write(work)
        if deleted:
            self.folder.file(file_id).unlink(missing_ok=True)
            self.folder.reordered(file_id).unlink(missing_ok=True)
        return deleted

    async def delete_expired_files(self) -> None:
        """Delete the files whose time is over."""
        expired = self.reader.execute("SELECT id FROM file WHERE expires_at <= ?", (time.time(),)).fetchall()
        ids = [(row[0],) for row in expired]
        if ids:
            await self.write(lambda database: database.executemany("DELETE FROM file WHERE id = ?", ids))
        for (file_id,) in ids:
            self.folder.file(file_id).unlink(missing_ok=True)
            self.folder.reordered(file_id).unlink(missing_ok=True)

    async def add_batch(self, make: Callable[[str], BatchRecord]) -> BatchRecord:
        """Insert the batch that `make` makes of a new id, and note it in the journal."""

        def work(database: sqlite3.Connection) -> BatchRecord:
            batch = make("batch_" + name(self.seed, "batch", next_position(database, "batch")))
            database.execute(
                "INSERT INTO batch (id, created_at, status, tokens, record) VALUES (?, ?, ?, 0, ?)",
                (batch.id, batch.created_at, batch.status, encode(batch)),
            )
            return batch

        return await self.write(work, created_line)

    def batch(self, batch_id: str) -> BatchRecord | None:
        """A batch by its id."""
        row = self.reader.execute("SELECT record FROM batch WHERE id = ?", (batch_id,)).fetchone()
        return decode_batch(row[0]) if row else None

    def batches(self, *, limit: int, after: str | None, created_before: float) -> list[BatchRecord]:
        """Batches, newest first, from behind `after` on."""
        query = """
            SELECT record FROM batch
            WHERE created_at <= :created_before
              AND (:after IS NULL OR position < (SELECT position FROM batch WHERE id = :after))
            ORDER BY position DESC LIMIT :limit
        """
        values = {"created_before": created_before, "after": after, "limit": limit}
        return [decode_batch(row[0]) for row in self.reader.execute(query, values)]

    def open_batches(self) -> list[BatchRecord]:
        """The batches that are not terminal."""
        query = "SELECT record FROM batch WHERE status NOT IN (SELECT value FROM json_each(?)) ORDER BY position"
        return [decode_batch(row[0]) for row in self.reader.execute(query, (TERMINAL_JSON,))]

    def batches_created_since(self, since: float) -> int:
        """How many batches were created after a Unix time."""
        row = self.reader.execute("SELECT count(*) FROM batch WHERE created_at > ?", (since,)).fetchone()
        return int(row[0])

    def enqueued_tokens(self) -> dict[str, int]:
        """Estimated prompt tokens of the accepted batches that are not terminal, by model."""
        query = """
            SELECT model, sum(tokens) FROM batch
            WHERE status NOT IN (SELECT value FROM json_each(?)) AND model IS NOT NULL GROUP BY model
        """
        return dict(self.reader.execute(query, (TERMINAL_JSON,)).fetchall())

    def enqueued_inputs(self) -> int:
        """Embedding inputs of the accepted batches that are not terminal."""
        return sum(batch.inputs for batch in self.open_batches())

    def statuses(self) -> dict[str, int]:
        """How many batches there are in each status."""
        return dict(self.reader.execute("SELECT status, count(*) FROM batch GROUP BY status").fetchall())

    async def update_batch(
        self,
        batch_id: str,
        expected: Status,
        change: Callable[[BatchRecord], None],
        new_files: Sequence[NewFile] = (),
        journal: bytes = b"",
    ) -> BatchRecord | None:
        """Change a batch, with its files and journal lines, if it has the expected status; None if it has not."""

        def work(database: sqlite3.Connection) -> BatchRecord | None:
            row = database.execute("SELECT record FROM batch WHERE id = ?", (batch_id,)).fetchone()
            batch = decode_batch(row[0])
            if batch.status is not expected:
                return None
            change(batch)
            for new in new_files:
                self.insert_file(database, new)
            database.execute(
                "UPDATE batch SET status = ?, model = ?, tokens = ?, record = ? WHERE id = ?",
                (batch.status, batch.model, batch.tokens, encode(batch), batch_id),
            )
            if batch.is_terminal and self.announces:
                position = next_position(database, "event")
                event = EndEvent(position, batch_id, f"batch.{batch.status}", time.time())
                database.execute("INSERT INTO event (record) VALUES (?)", (encode(event),))
            return batch

        batch = await self.write(work, lambda changed: journal if changed else b"")
        if batch is not None and batch.is_terminal:
            with suppress(FileNotFoundError):
                self.folder.input(batch_id).unlink()
        return batch

    def events(self) -> list[EndEvent]:
        """The ends of batches that are not announced yet, oldest first."""
        return [decode_event(row[0]) for row in self.reader.execute("SELECT record FROM event ORDER BY position")]

    async def save_event(self, event: EndEvent) -> None:
        """Keep how an event is to be announced."""
        values = (encode(event), event.position)
        await self.write(lambda database: database.execute("UPDATE event SET record = ? WHERE position = ?", values))

    async def delete_event(self, position: int) -> None:
        """Forget an event that is announced."""
        await self.write(lambda database: database.execute("DELETE FROM event WHERE position = ?", (position,)))


def next_position(database: sqlite3.Connection, table: str) -> int:
    """The position of the next row; positions are never used twice."""
    row: Any = database.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return (row[0] if row else 0) + 1


def write_setting(database: sqlite3.Connection, key: str, value: bytes) -> None:
    """Keep a value by name, inside a transaction."""
    database.execute(
        "INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (key, value)
    )
