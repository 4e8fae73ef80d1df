import asyncio
import json
import uuid
from dataclasses import dataclass

from penstock.core.chunk import Headers, decode_manifest
from penstock.core.gathering import Gathering, Rules, Source
from penstock.core.lane import DEAD_LETTERS, LaneKey, Lanes
from penstock.core.request import RequestLimits
from penstock.postgres.database import Database
from penstock.postgres.intake_store import IntakeStore, Place, Span
from tests.support.rows import ACCOUNT, CLUSTER, LANE, TOPIC, TOPIC_ID, chunk_of, migrated, store

LANES = Lanes()
PLACE = Place(TOPIC_ID, 0)


@dataclass
class Record:
    """A Kafka record."""

    value: bytes | None
    offset: int
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: Headers = ()


def request(model: str, offset: int) -> Record:
    line = {"custom_id": f"id-{offset}", "url": LANE.endpoint, "body": {"model": model}}
    return Record(json.dumps(line).encode(), offset)


def key(model: str) -> LaneKey:
    return LANE._replace(model=model)


async def take_in(pool: Database, start: int, *models: str) -> dict[str, int]:
    """Take requests of models in as intake does; returns how many the lane of each topic for results got."""
    intake = IntakeStore(pool, CLUSTER)
    gathering = Gathering(Rules(ACCOUNT, LANES, RequestLimits(), "results", "dead", frozenset({"results"})), 0.0)
    records = [request(model, start + number) for number, model in enumerate(models)]
    gathering.sort(Source(CLUSTER, TOPIC, TOPIC_ID), records)
    keys = gathering.lanes()
    lane_ids = await intake.open_lanes(keys, LANES.lanes_max)
    if len(lane_ids) < len(keys):
        lane_ids |= await intake.open_lanes([DEAD_LETTERS], LANES.lanes_max)
    chunks = gathering.pack(lane_ids)
    await intake.store({PLACE: Span(start, start + len(models))}, chunks)
    counts: dict[str, int] = {}
    for _, chunk in chunks:
        manifest = decode_manifest(chunk.manifest)
        for topic in manifest.result_topics:
            counts[topic] = counts.get(topic, 0) + 1
        assert {code for code, _ in manifest.reasons} <= {"lane_limit"}
    return counts


async def test_requests_of_the_lane_after_the_last_are_dead_letters_and_the_others_do_not_notice(database: str) -> None:
    async with migrated(database) as pool:
        await IntakeStore(pool, CLUSTER).ensure_positions({PLACE: (TOPIC, 0)})
        models = [f"model-{number}" for number in range(LANES.lanes_max)]
        assert await take_in(pool, 0, *models) == {"results": 200}
        assert await take_in(pool, 200, "one-too-many", "model-0", "one-too-many") == {"results": 1, "dead": 2}
        assert await take_in(pool, 203, *models) == {"results": 200}
        async with pool.transaction() as connection:
            assert await connection.value("count_open_lanes") == 200


async def test_the_last_lane_that_another_replica_opened_meanwhile_is_open_to_all(database: str) -> None:
    async with migrated(database) as pool:
        intake = IntakeStore(pool, CLUSTER)
        await intake.open_lanes([key("first")], 2)
        async with pool.transaction() as rival:
            await rival.row("lock_lane_count")
            opening = asyncio.ensure_future(intake.open_lanes([key("last")], 2))
            async with pool.pool.acquire() as watch:
                while not await watch.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.01)
            lane_id = await rival.value("open_lane", *key("last"))
        assert await opening == {key("last"): lane_id}
        assert await intake.open_lanes([key("one-too-many")], 2) == {}


async def test_replicas_together_open_no_more_lanes_than_allowed(database: str) -> None:
    async with migrated(database) as pool:
        intake = IntakeStore(pool, CLUSTER)
        opened = await asyncio.gather(*(intake.open_lanes([key(f"model-{n}")], 5) for n in range(12)))
        assert sum(map(len, opened)) == 5


async def test_a_lane_that_fell_idle_makes_room_and_can_be_opened_again(database: str) -> None:
    async with migrated(database) as pool:
        intake = IntakeStore(pool, CLUSTER)
        await store(pool, chunk_of(1), lane=key("busy"))
        idle = await intake.open_lanes([key("idle")], 2)
        assert await intake.open_lanes([key("other")], 2) == {}
        async with pool.transaction() as connection:
            assert await connection.execute("close_lanes") == 1
        assert set(await intake.open_lanes([key("other"), key("busy")], 2)) == {key("other"), key("busy")}
        assert await intake.open_lanes([key("idle")], 3) == idle


async def test_the_lane_of_dead_letters_is_always_open_and_not_counted(database: str) -> None:
    async with migrated(database) as pool:
        intake = IntakeStore(pool, CLUSTER)
        assert set(await intake.open_lanes([key("a"), DEAD_LETTERS, key("b")], 1)) == {key("a"), DEAD_LETTERS}
        assert set(await intake.open_lanes([DEAD_LETTERS], 0)) == {DEAD_LETTERS}
        async with pool.transaction() as connection:
            assert await connection.execute("close_lanes") == 1


async def test_who_wakes_late_does_not_halt_a_partition_that_has_moved_on(database: str) -> None:
    async with migrated(database) as pool:
        intake = IntakeStore(pool, CLUSTER)
        await intake.ensure_positions({PLACE: (TOPIC, 7)})
        await intake.halt_partition(PLACE, "unreadable", 6)
        assert (await intake.read_positions([PLACE]))[PLACE].halted_reason is None
        await intake.halt_partition(PLACE, "unreadable", 7)
        assert (await intake.read_positions([PLACE]))[PLACE].halted_reason == "unreadable"


async def test_a_topic_made_anew_is_another_place(database: str) -> None:
    async with migrated(database) as pool:
        intake = IntakeStore(pool, CLUSTER)
        again = Place(uuid.uuid4(), 0)
        await intake.ensure_positions({PLACE: (TOPIC, 7), again: (TOPIC, 0)})
        await intake.ensure_positions({PLACE: (TOPIC, 99)})
        stands = await intake.read_positions([PLACE, again])
        assert [stands[place].position for place in (PLACE, again)] == [7, 0]
