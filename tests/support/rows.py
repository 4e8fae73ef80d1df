"""A migrated database, and rows of it as the service would have written them."""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic import SecretStr

from penstock.core.chunk import Manifest, NewChunk, pack_chunk
from penstock.core.filling import SizesOf, seal
from penstock.core.gathering import wire_lines
from penstock.core.identity import new_id
from penstock.core.lane import LaneKey
from penstock.core.turn import USUAL, Turn
from penstock.core.window import ChunkSummary, Sealed, WindowLimits
from penstock.postgres.database import IDLE_SECONDS, Database
from penstock.postgres.intake_store import IntakeStore, Place, Span
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.migrate import migrate
from penstock.postgres.window_store import Birth, WindowStore
from penstock.settings import PostgresSettings
from penstock.stages.lease import Lease

ACCOUNT = "account"
CLUSTER = "cluster"
LANE = LaneKey(ACCOUNT, "/v1/responses", "gpt-4o", "24h")
TOPIC = "requests"
TOPIC_ID = uuid.UUID(int=5)
DEADLINE = 4_000_000_000.0
ROOMY = WindowLimits(requests=50_000, bytes=200_000_000, inputs=50_000, tokens=None)


@asynccontextmanager
async def opened(dsn: str, *, connections_max: int = 4, idle_seconds: float = IDLE_SECONDS) -> AsyncIterator[Database]:
    """A pool of connections, as a replica has it."""
    settings = PostgresSettings(dsn=SecretStr(dsn), connections_max=connections_max)
    database = Database(settings, "penstock-test", idle_seconds)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def migrated(
    dsn: str, *, connections_max: int = 4, idle_seconds: float = IDLE_SECONDS
) -> AsyncIterator[Database]:
    """The same, on the newest schema."""
    async with opened(dsn, connections_max=connections_max, idle_seconds=idle_seconds) as database:
        await migrate(database)
        yield database


async def held(database: Database, name: str, *, seconds: float = 60.0) -> Lease:
    """A lease of a holder of its own."""
    epoch = await LeaseStore(database, uuid.uuid4(), seconds).acquire_lease(name)
    assert epoch is not None, f"somebody holds {name}"
    return Lease(name, epoch, seconds, float("inf"), 0.0)


def chunk_of(
    requests: int,
    *,
    body: bytes = b'{"model":"m"}',
    tokens: int = 10,
    deadline: float = DEADLINE,
    attempt: int = 0,
    late: int = 0,
    turn: Turn = USUAL,
    received: float | None = None,
    stored: float | None = None,
) -> NewChunk:
    """A chunk of equal requests, written and stored just now; the deadline of the first ``late`` ones has passed."""
    stored = time.time() if stored is None else stored
    chunk_id = new_id()
    manifest = Manifest.empty(CLUSTER, TOPIC, TOPIC_ID)
    for number in range(requests):
        manifest.custom_ids.append(f"id-{number}")
        manifest.partitions.append(0)
        manifest.offsets.append(number)
        manifest.keys.append(None)
        manifest.headers.append([])
        manifest.received.append(stored if received is None else received)
        manifest.deadlines.append(1.0 if number < late else deadline)
        manifest.result_topics.append("results")
        manifest.tokens.append(tokens)
        manifest.inputs.append(1)
    lines = wire_lines(chunk_id, LANE.endpoint, [body] * requests)
    manifest.lengths = [len(line) for line in lines]
    return pack_chunk(chunk_id, attempt, lines, manifest, stored=stored, turn=turn)


async def open_lane(database: Database, key: LaneKey = LANE) -> int:
    """A lane's id."""
    return (await IntakeStore(database, CLUSTER).open_lanes([key], 200))[key]


async def store(database: Database, *chunks: NewChunk, lane: LaneKey = LANE) -> int:
    """Store chunks of a lane as intake does; returns the lane's id."""
    lane_id = await open_lane(database, lane)
    intake, place = IntakeStore(database, CLUSTER), Place(TOPIC_ID, 0)
    await intake.ensure_positions({place: (TOPIC, 0)})
    position = (await intake.read_positions([place]))[place].position
    await intake.store({place: Span(position, position + 1)}, [(lane_id, each) for each in chunks])
    return lane_id


async def seal_all(
    database: Database, lane_id: int, *, limits: WindowLimits = ROOMY, dead: bool = False
) -> list[tuple[uuid.UUID, Sealed]]:
    """Seal whatever waits in a lane."""

    def plan(chunks: Sequence[ChunkSummary], sizes_of: SizesOf) -> list[Sealed]:
        return seal(chunks, limits, sizes_of, age_max_seconds=0.0, flush=True)

    lease = await held(database, f"sealer-{uuid.uuid4()}")
    return await WindowStore(database).seal(lease, Birth(lane_id, 4), plan, dead=dead)


async def batch_of(
    database: Database, requests: int = 2, *, tokens: int = 10, lane: LaneKey = LANE, turn: Turn = USUAL
) -> uuid.UUID:
    """A sealed batch of one chunk."""
    lane_id = await store(database, chunk_of(requests, tokens=tokens, turn=turn), lane=lane)
    ((batch_id, _),) = await seal_all(database, lane_id)
    return batch_id
