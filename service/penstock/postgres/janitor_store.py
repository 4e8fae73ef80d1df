"""What the janitor clears away: payload and manifests by TRUNCATE, rows whose history is over."""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from penstock.core.batch import BatchState
from penstock.postgres.database import Connection, Database, Held, Record, columns
from penstock.telemetry.failpoint import failpoint

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"
FILES_LIVE_SECONDS = 31 * 86_400.0
"""By then the provider has let its files expire (30 days at most): nobody has to delete them."""
PORTION = 16
"""Chunks copied forward in one transaction: of up to 8 MiB each."""


class Ring(NamedTuple):
    """An insert-only ring of tables: what is copied forward, and when a table may be emptied.

    ``needed`` is the condition on `chunk` under which its bytes are still wanted.
    """

    name: str
    column: str
    body: str
    needed: str


PAYLOAD = Ring("payload", "payload_turn", "lines", "closed_at IS NULL")
MANIFEST = Ring("manifest", "manifest_turn", "body", "true")


class Leftover(NamedTuple):
    """A published batch whose provider files can go."""

    batch_id: uuid.UUID
    file_ids: tuple[str, ...]
    published_at: datetime


class Owner(NamedTuple):
    """The batch that a provider object names."""

    state: BatchState
    file_id: str | None
    provider_batch_id: str | None


class Spare(NamedTuple):
    """A batch at the provider that executes the requests of one of ours a second time."""

    provider_batch_id: str
    batch_id: uuid.UUID
    requests: int


class SeenBatch(NamedTuple):
    """What is asked of a batch at the provider to know whether it is a spare one."""

    provider_batch_id: str
    create_id: uuid.UUID | None
    """The create that its metadata names."""
    file_id: str | None
    """Its input file."""


class JanitorStore:
    """Guarded by the lease `janitor`; everything here is safe to do twice."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def turn(
        self, lease: Held, ring: Ring, turn_seconds: float, progress: Callable[[], None] = lambda: None
    ) -> bool:
        """Go on to the ring's next table when it is time; what is still needed of it is copied forward first.

        Nothing comes into the next table any more, so the copying needs no lock and goes in small transactions; what
        they did stays done when the turn has to be tried again.

        Args:
            lease: of the janitor.
            ring: the ring.
            turn_seconds: how long a table is the current one.
            progress: called after each portion.
        """
        row = await self.look(lease, ring, turn_seconds)
        if row is None or not row["due"]:
            return False
        current, following = row["turn"], (row["turn"] + 1) % row["turns"]
        while await self.forward(lease, ring, following, current):
            progress()
        return await self.advance(lease, ring, current, following)

    @failpoint("janitor.look")
    async def look(self, lease: Held, ring: Ring, turn_seconds: float) -> Record | None:
        """Where a ring stands, how many tables it has, and whether its turn is due; None: there is no such ring."""
        async with self.database.transaction(lease) as connection:
            return await connection.row("lock_ring", ring.name, turn_seconds)

    @failpoint("janitor.advance")
    async def advance(self, lease: Held, ring: Ring, current: int, following: int) -> bool:
        """Make the next table the current one, empty; False when it is needed or somebody else has turned."""
        async with self.database.transaction(lease) as connection:
            row = await connection.row("lock_ring", ring.name, 0.0)
            if row is None or row["turn"] != current:
                return False
            await self.lock(connection, ring, following)
            if await self.needed(connection, ring, following):
                return False
            await connection.raw.execute(f"TRUNCATE {ring.name}_{following}")
            await connection.execute("advance_ring", ring.name, following)
            return True

    @failpoint("janitor.forward")
    async def forward(self, lease: Held, ring: Ring, turn: int, current: int) -> int:
        """Copy a portion of what is needed of a table to the current one; returns its chunks.

        A chunk that somebody else has locked is left for later.
        """
        async with self.database.transaction(lease) as connection:
            moved = await connection.raw.fetch(
                f"UPDATE chunk SET {ring.column} = {current} WHERE id IN ("  # noqa: S608 - no outside text
                f"SELECT id FROM chunk WHERE {ring.column} = {turn} AND {ring.needed} "
                f"LIMIT {PORTION} FOR NO KEY UPDATE SKIP LOCKED) RETURNING id"
            )
            await connection.raw.execute(
                f"INSERT INTO {ring.name} (turn, chunk_id, {ring.body}) "  # noqa: S608 - no outside text
                f"SELECT {current}, chunk_id, {ring.body} FROM {ring.name}_{turn} WHERE chunk_id = ANY($1)",
                [each["id"] for each in moved],
            )
            return len(moved)

    async def truncate(self, lease: Held, ring: Ring) -> int:
        """Empty every table of the ring that nothing needs any more; returns how many."""
        row = await self.look(lease, ring, 0.0)
        if row is None:
            return 0
        others = [turn for turn in range(row["turns"]) if turn != row["turn"]]
        return sum([await self.empty(lease, ring, turn) for turn in others])

    @failpoint("janitor.empty")
    async def empty(self, lease: Held, ring: Ring, turn: int) -> bool:
        """Empty a table that nothing needs any more; whether it was filled until now."""
        async with self.database.transaction(lease) as connection:
            if not await self.filled(connection, ring, turn) or await self.needed(connection, ring, turn):
                return False
            await self.lock(connection, ring, turn)
            if await self.needed(connection, ring, turn):
                return False
            await connection.raw.execute(f"TRUNCATE {ring.name}_{turn}")
            return True

    async def lock(self, connection: Connection, ring: Ring, turn: int) -> None:
        """Lock a table against readers, without making them wait long for us."""
        await connection.raw.execute(LOCK_TIMEOUT)
        await connection.raw.execute(f"LOCK TABLE {ring.name}_{turn} IN ACCESS EXCLUSIVE MODE")

    async def filled(self, connection: Connection, ring: Ring, turn: int) -> bool:
        """Whether a table holds anything."""
        found: bool = await connection.raw.fetchval(f"SELECT EXISTS (SELECT FROM {ring.name}_{turn})")  # noqa: S608 - no outside text
        return found

    async def needed(self, connection: Connection, ring: Ring, turn: int) -> bool:
        """Whether any chunk still needs a table."""
        found: bool = await connection.raw.fetchval(
            f"SELECT EXISTS (SELECT FROM chunk WHERE {ring.column} = {turn} AND {ring.needed})"  # noqa: S608 - no outside text
        )
        return found

    @failpoint("janitor.files_due")
    async def files_due(self, account: str, grace_seconds: float, after: datetime | None) -> list[Leftover]:
        """Up to 100 published batches of an account whose provider files have outlived their grace, oldest first.

        Args:
            account: the account.
            grace_seconds: how long files stay after publishing.
            after: leave out what was published by then.
        """
        return [
            Leftover(
                row["id"],
                tuple(filter(None, (row["file_id"], row["output_file_id"], row["error_file_id"]))),
                row["published_at"],
            )
            for row in await self.database.fetch("files_due", account, grace_seconds, after)
        ]

    @failpoint("janitor.mark_files_removed")
    async def mark_files_removed(self, lease: Held, batch_id: uuid.UUID) -> None:
        """Remember that a batch's provider files are gone."""
        async with self.database.transaction(lease) as connection:
            await connection.execute("mark_files_removed", batch_id)

    @failpoint("janitor.clock")
    async def database_clock(self) -> datetime:
        """The database's clock: the age of what others made is judged by it alone."""
        rows = await self.database.fetch("database_clock")
        return datetime.fromtimestamp(rows[0][0], UTC)

    @failpoint("janitor.owners")
    async def owners(self, batch_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Owner]:
        """The batches that provider objects name; read it after the listing (B4)."""
        rows = await self.database.fetch("batches_named", list(batch_ids))
        return {row["id"]: Owner(BatchState(row["state"]), row["file_id"], row["provider_batch_id"]) for row in rows}

    @failpoint("janitor.note_spares")
    async def note_spares(self, lease: Held, account: str, seen: Sequence[SeenBatch]) -> list[Spare]:
        """Write down which batches seen at the provider execute requests a second time; returns what is new of them."""
        async with self.database.transaction(lease) as connection:
            rows = await connection.fetch("note_spares", account, *columns(seen, 3))
            return [Spare(*row) for row in rows]

    @failpoint("janitor.open_spares")
    async def open_spares(self, account: str) -> list[Spare]:
        """Up to 100 spare batches of an account whose end was not seen yet, oldest first."""
        return [Spare(*row) for row in await self.database.fetch("open_spares", account)]

    @failpoint("janitor.end_spare")
    async def end_spare(self, lease: Held, provider_batch_id: str, executed: int) -> bool:
        """Note how many requests a spare batch has executed, once; returns whether that was not known before."""
        async with self.database.transaction(lease) as connection:
            return await connection.execute("end_spare", provider_batch_id, executed) == 1

    @failpoint("janitor.sweep")
    async def sweep(self, lease: Held, history_seconds: float) -> None:
        """Delete rows whose history is over, close idle lanes, and give parked batches another chance."""
        async with self.database.transaction(lease) as connection:
            await connection.execute("forget_files", FILES_LIVE_SECONDS)
            await connection.execute("delete_chunks", history_seconds)
            await connection.execute("delete_batches", history_seconds)
            await connection.execute("close_lanes")
            await connection.execute("delete_spares", history_seconds)
            await connection.execute("delete_replicas")
            await connection.execute("delete_webhooks")
            await connection.execute("unpark")
