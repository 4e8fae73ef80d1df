"""What operators tell the cluster; each word is noted for the log in the transaction that carries it out."""

import uuid
from dataclasses import dataclass
from enum import StrEnum

from penstock.core.batch import BatchState, Cancel
from penstock.core.lane import LaneKey
from penstock.postgres.audit import note
from penstock.postgres.database import Database
from penstock.postgres.intake_store import lane_key

NO_MORE = frozenset({BatchState.PUBLISHED, BatchState.SPLIT})
"""States in which there is nothing left to cancel."""


class Pausable(StrEnum):
    """What can be paused."""

    LANE = "lane"
    ACCOUNT = "account"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Cancellable:
    """A batch that an operator names, as it was when the word reached it."""

    id: uuid.UUID
    key: LaneKey
    state: BatchState
    requests: int
    provider_batch_id: str | None
    cancel: Cancel | None
    files_given_up: bool

    @property
    def over(self) -> bool:
        """Whether the provider is done with it: then a cancel gives up what cannot be had of its files."""
        return self.state in (BatchState.ENDED, BatchState.DECIDED)


class OperatorStore:
    """Every method does the same when it is called again."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def pause(self, kind: Pausable, name: str, reason: str) -> tuple[bool, list[LaneKey]]:
        """Hold a lane, an account or a topic; what is sealed there gives back its tokens.

        Returns:
            Whether it was not paused before, and the open lanes that are held by it (none for a topic).
        """
        async with self.database.transaction() as connection:
            new = await connection.row("insert_pause", kind.value, name, reason) is not None
            if new:
                await connection.execute("release_held")
                await note(connection, "pause", f"{kind} {name}", reason=reason)
            if kind is Pausable.TOPIC:
                return new, []
            return new, [lane_key(row) for row in await connection.fetch("lanes_named", kind.value, name)]

    async def resume(self, kind: Pausable, name: str | None) -> list[str]:
        """Let go on what was paused under this name, and lanes of it that halted; all of the kind without a name.

        An account that the provider refuses is tried at once.

        Returns:
            The names of what goes on.
        """
        async with self.database.transaction() as connection:
            names = [row["name"] for row in await connection.fetch("delete_pauses", kind.value, name)]
            if kind is Pausable.LANE:
                names += [row["name"] for row in await connection.fetch("end_halts", name)]
            if kind is Pausable.ACCOUNT:
                tried = {row["account"] for row in await connection.fetch("try_accounts_now", name)}
                names += sorted(tried - set(names))
            for each in names:
                await note(connection, "resume", f"{kind} {each}")
            return names

    async def flush(self, lane: str | None) -> list[LaneKey]:
        """Seal what waits in all lanes, or in those of this model, endpoint or name."""
        async with self.database.transaction() as connection:
            lanes = [lane_key(row) for row in await connection.fetch("request_flush", lane)]
            for each in lanes:
                await note(connection, "flush", f"lane {each}")
            return lanes

    async def cancel(self, search: str, cancel: Cancel) -> list[Cancellable]:
        """Cancel a batch, if the search finds one alone and there is something left of it to cancel.

        One that has ended at the provider is decided by what can be had of its files at the next try.

        Args:
            search: the beginning of its id, or the provider's id.
            cancel: what becomes of the requests without a result.

        Returns:
            The batches found, at most two, as they were before.
        """
        async with self.database.transaction() as connection:
            found = [
                Cancellable(
                    row["id"],
                    lane_key(row),
                    BatchState(row["state"]),
                    row["requests"],
                    row["provider_batch_id"],
                    Cancel(row["cancel"]) if row["cancel"] else None,
                    row["files_given_up"],
                )
                for row in await connection.fetch("cancellable", search)
            ]
            if len(found) == 1 and may_cancel(found[0], cancel):
                (batch,) = found
                await connection.execute("cancel_batch", batch.id, cancel.value)
                if batch.provider_batch_id is not None and not batch.over:
                    hint = f"cancel/{batch.id}/{cancel}"
                    await connection.execute("note_webhook", batch.key.account, hint, batch.provider_batch_id)
                await note(connection, "cancel", f"batch {batch.id}", rest=cancel.value, requests=batch.requests)
            return found


def may_cancel(batch: Cancellable, cancel: Cancel) -> bool:
    """Whether this word would change anything."""
    new = batch.cancel is not cancel or (batch.over and not batch.files_given_up)
    return new and batch.state not in NO_MORE
