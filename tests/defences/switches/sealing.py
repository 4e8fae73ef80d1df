"""Windows, reservations and pieces; formats and ids of what is stored."""

import dataclasses
import itertools
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import zstandard

import penstock.core.filling
import penstock.core.gathering
import penstock.core.requeue
import penstock.postgres.collector_store
import penstock.postgres.submitter_store
import penstock.postgres.window_store
import penstock.stages.collector
import penstock.stages.sealer
import tests.support.rows
from penstock.core.decision import Decision
from penstock.core.filling import fill
from penstock.core.lane import LaneKey
from penstock.core.quota import Reserved, Waiting, grants
from penstock.core.window import ChunkSummary, Sealed, creates_allowed
from penstock.postgres.census_store import CensusStore, Heartbeat
from penstock.postgres.database import Database
from penstock.postgres.janitor_store import JanitorStore
from penstock.postgres.submitter_store import SubmitterStore
from penstock.postgres.window_store import WindowStore
from penstock.stages.sealer import Due, Sealer, over_age
from tests.defences.switches.registry import Patch, defence, reword


@defence("Identity")
def random_ids(patch: Patch) -> None:
    """Ids come from a sequence, which a fail-over rewinds."""
    opening = Database.open
    sequence = itertools.count(1)

    async def rewind(self: Database) -> None:
        nonlocal sequence
        sequence = itertools.count(1)
        await opening(self)

    patch.setattr(Database, "open", rewind)
    modules = (
        penstock.core.gathering,
        penstock.core.requeue,
        penstock.postgres.submitter_store,
        penstock.postgres.window_store,
        tests.support.rows,
    )
    for module in modules:
        patch.setattr(module, "new_id", lambda: uuid.UUID(int=next(sequence)))


@defence("Identity")
def chunk_format(patch: Patch) -> None:
    """Chunks are sealed whatever format they have."""
    for query, number in (("windows", 1), ("unsealed_chunks", 3)):
        reword(patch, query, (f"format <= ${number}", f"format <= ${number} + 99"))


@defence("Identity")
def decision_format(patch: Patch) -> None:
    """Decisions are read whatever format they have."""

    def any_format(stored: bytes) -> Decision:
        return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(stored), type=Decision)

    patch.setattr(penstock.postgres.collector_store, "decode_decision", any_format)


@defence("S1", 19)
def lane_lock_and_exact_count(patch: Patch) -> None:
    """Sealing neither locks the lane nor demands of chunks the count that it read (either alone suffices)."""
    reword(patch, "lock_lane", (" FOR UPDATE", ""))
    reword(patch, "take_chunks", (" AND c.taken = t.taken", ""), ("taken = c.taken +", "taken = t.taken +"))


@defence("S1")
def open_chunks(patch: Patch) -> None:
    """A table of the ring is emptied though a batch still needs chunks of it."""

    async def never(*_: object) -> bool:
        return False

    patch.setattr(JanitorStore, "needed", never)


@defence("S2")
def cut_to_limit(patch: Patch) -> None:
    """A batch that is over the limit in force stays whole."""

    async def leave(*_: object) -> None:
        return

    patch.setattr(SubmitterStore, "cut", leave)


@defence("S2")
def alone_when_idle(patch: Patch) -> None:
    """What is over the whole limit is never granted."""

    def within(waiting: Sequence[Waiting], reserved: Reserved, limit: int | None, **options: bool) -> list[Waiting]:
        granted = grants(waiting, reserved, limit, **options)
        return [each for each in granted if limit is None or each.tokens <= limit]

    patch.setattr(penstock.postgres.submitter_store, "grants", within)


@defence("S3")
def oldest_first(patch: Patch) -> None:
    """Reservations are granted youngest first."""
    reword(patch, "batches_waiting", ("b.sealed_at, b.id", "b.sealed_at DESC, b.id DESC"))


@defence("S3")
def reservation_by_batch(patch: Patch) -> None:
    """Releasing takes away any reservation, not that of the batch."""
    some = "ctid IN (SELECT ctid FROM reservation LIMIT cardinality($1::uuid[]))"
    reword(patch, "delete_reservation", ("batch_id = ANY($1::uuid[])", some))


@defence("B5, S2")
def pieces_budget(patch: Patch) -> None:
    """Pieces that are cut to a token limit share one budget of creates."""

    def inherit(birth: Any, **changes: Any) -> Any:
        return dataclasses.replace(birth, **{name: each for name, each in changes.items() if name != "root_id"})

    patch.setattr(penstock.postgres.submitter_store, "replace", inherit)


@defence("B6")
def newest_generation(patch: Patch) -> None:
    """No replica heeds the generation of the others."""
    heartbeat = CensusStore.heartbeat

    async def alone(self: CensusStore, holder: uuid.UUID, generation: int, digest: bytes) -> Heartbeat:
        return (await heartbeat(self, holder, generation, digest))._replace(newest=generation)

    patch.setattr(CensusStore, "heartbeat", alone)


@defence("S4")
def take_turns(patch: Patch) -> None:
    """Windows are filled in the order in which chunks came."""

    def in_order(chunks: Iterable[ChunkSummary], *given: Any) -> list[Sealed]:
        return fill([each._replace(turn=each.turn._replace(share=0)) for each in chunks], *given)

    order = "priority, row_number() OVER (PARTITION BY priority, share ORDER BY created_at, id), "
    reword(patch, "unsealed_chunks", (order, ""))
    patch.setattr(penstock.core.filling, "fill", in_order)


@defence("S4")
def priority_first(patch: Patch) -> None:
    """What has a high priority is granted its tokens, and claimed, when its turn comes by age."""
    reword(patch, "batches_waiting", ("b.priority, ", ""))
    reword(patch, "claimable_batch", ("b.priority, ", ""))


@defence("S4")
def sealed_late(patch: Patch) -> None:
    """Whatever is due is sealed, however much waits sealed already."""
    patch.setattr(penstock.stages.sealer, "due_ahead", lambda windows, *_: len(windows))


@defence("B7")
def own_creates(patch: Patch) -> None:
    """Windows of all accounts draw on the creates of the oldest one's."""

    async def of_oldest(self: Sealer, aged: list[Due]) -> list[Due]:
        aged.sort(key=over_age, reverse=True)
        if not aged:
            return []
        account = aged[0][0].key.account
        used, waiting = await self.store.creates_pace(account)
        return aged[: creates_allowed(used, waiting, self.creates_per_hour[account], 0.0)]

    patch.setattr(Sealer, "affordable", of_oldest)


@defence("W5")
def not_before(patch: Patch) -> None:
    """A window takes chunks whatever time they are to wait."""
    reword(patch, "windows", ("c.not_before <= clock_timestamp()", "true"))
    reword(patch, "unsealed_chunks", ("not_before <= clock_timestamp()", "true"))


@defence("W6")
def deadline_at_create(patch: Patch) -> None:
    """A batch is claimed, and its create announced, whatever its deadline (either alone suffices)."""
    reword(patch, "claimable_batch", (" AND b.deadline_at > clock_timestamp()", ""))
    reword(patch, "may_start", ("b.deadline_at > clock_timestamp()", "true"))


@defence("W6")
def sealed_deadline(patch: Patch) -> None:
    """What is past its deadline in a sealed batch waits on."""

    async def nothing(_: SubmitterStore) -> list[uuid.UUID]:
        return []

    patch.setattr(SubmitterStore, "past_deadline", nothing)


@defence("W6")
def unsealed_deadline(patch: Patch) -> None:
    """What is past its deadline before it is sealed waits on."""

    async def nothing(_: WindowStore) -> dict[int, LaneKey]:
        return {}

    patch.setattr(WindowStore, "overdue_lanes", nothing)


@defence("W5")
def growing_wait(patch: Patch) -> None:
    """What is to be tried again is tried at once."""
    patch.setattr(penstock.stages.collector, "retry_delay", lambda *_: 0.0)
