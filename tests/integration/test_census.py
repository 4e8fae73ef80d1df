"""What the holder of the census shows for the whole cluster, and what it shows no longer when it is that no more."""

import asyncio
import time
import uuid

from prometheus_client import REGISTRY

from penstock.core.chunk import read_lines
from penstock.core.lane import LanePolicy, Lanes
from penstock.core.requeue import Requeues, Try
from penstock.core.window import Part
from penstock.postgres.batch_row import load_batch, read_payload
from penstock.postgres.census_store import CensusStore
from penstock.postgres.database import Database
from penstock.postgres.intake_store import store_chunks
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.window_store import Birth, read_manifest, split_batch
from penstock.settings import ProviderSettings
from penstock.stages.census import Census
from penstock.stages.lease import LeaseKeeper
from tests.support.rows import ACCOUNT, batch_of, chunk_of, migrated, seal_all, store

HOUR = 3600.0
LANE = "named"
ENDED = """
UPDATE batch SET provider_batch_id = 'batch_1', submitted_at = now(), state = 'creating', file_id = 'file_1'
WHERE id = $1 RETURNING id
"""
COLLECTABLE = """
UPDATE batch SET state = 'ended', output_file_id = 'file_2', ended_at = now() - interval '5 days' WHERE id = $1
"""


def census_of(database: Database) -> Census:
    keeper = LeaseKeeper(asyncio.Event(), LeaseStore(database, uuid.uuid4(), 60.0))
    lanes = Lanes(defaults=LanePolicy(deadline_seconds=10 * HOUR))
    accounts = {ACCOUNT: ProviderSettings(account=ACCOUNT, creates_per_hour=77, file_expires_seconds=10 * 86400)}
    return Census(
        asyncio.Event(),
        CensusStore(database),
        keeper,
        generation=1,
        lanes=lanes,
        accounts=accounts,
        database_bytes_max=123,
        look_up_seconds=20,
        lane_label=lambda _: LANE,
    )


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def run(database: Database, statement: str, *arguments: object) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute(statement, *arguments)


async def ages(database: Database) -> dict[str, tuple[int, int, int]]:
    """By stage: hours since the oldest message, of it hours in Kafka, and percent of the deadline that is used."""
    found = {}
    for wait in (await CensusStore(database).gauges()).waits:
        hours = round(wait.oldest_age_seconds / HOUR), round(wait.unstored_seconds / HOUR)
        found[wait.stage] = (*hours, round(100 * wait.deadline_ratio))
    return found


async def test_age_and_deadline_of_a_request_go_on_through_sealing_splitting_and_sending_again(database: str) -> None:
    now = time.time()
    chunk = chunk_of(2, received=now - 11 * HOUR, stored=now - 9 * HOUR, deadline=now + 3 * HOUR)
    async with migrated(database) as pool:
        lane_id = await store(pool, chunk)
        assert await ages(pool) == {"window": (11, 2, 75)}
        ((batch_id, _),) = await seal_all(pool, lane_id)
        assert await ages(pool) == {"sealed": (11, 2, 75)}
        async with pool.transaction() as connection:
            halves = [([Part(chunk.id, index, 1)], None) for index in (0, 1)]
            first, _ = await split_batch(connection, batch_id, Birth(lane_id, 8, batch_id), halves)
        assert await ages(pool) == {"sealed": (11, 2, 75)}
        await run(pool, "DELETE FROM batch WHERE id <> $1", first)
        await run(pool, ENDED, first)
        assert await ages(pool) == {"sealed": (11, 2, 75)}
        for state in ("submitted", "ended"):
            await run(pool, "UPDATE batch SET state = $1, ended_at = now()", state)
            assert await ages(pool) == {state: (11, 2, 75)}
        requeues = Requeues()
        async with pool.transaction() as connection:
            batch = await load_batch(connection, first)
            manifest = await read_manifest(connection, chunk.id)
            lines = read_lines(await read_payload(connection, chunk.id), manifest)
            requeues.take(manifest, lines, [Try(0, 1)], batch.kept[0])
            await store_chunks(connection, [(lane_id, each) for each in requeues.rest()], delay_seconds=60.0)
            await connection.raw.execute("DELETE FROM batch")
        assert await ages(pool) == {"window": (11, 2, 75)}


async def test_the_census_shows_age_time_in_kafka_and_deadline_by_lane(database: str) -> None:
    now = time.time()
    async with migrated(database) as pool:
        await store(pool, chunk_of(2, received=now - 11 * HOUR, stored=now - 9 * HOUR, deadline=now + 3 * HOUR))
        await census_of(pool).round()
        assert 0.74 < (shown("penstock_queue_deadline_ratio", lane=LANE) or 0) < 0.76
        assert round((shown("penstock_queue_oldest_age_seconds", lane=LANE) or 0) / HOUR) == 11
        assert round((shown("penstock_queue_unstored_seconds", lane=LANE) or 0) / HOUR) == 2


async def test_rows_of_the_version_before_count_from_their_own_times(database: str) -> None:
    async with migrated(database) as pool:
        await store(pool, chunk_of(2, deadline=time.time() + 3 * HOUR))
        await run(
            pool, "UPDATE chunk SET created_at = created_at - interval '9 hours', received_at = NULL, stored_at = NULL"
        )
        assert await ages(pool) == {"window": (9, 0, 75)}


async def test_a_batch_without_tokens_waits_for_quota_and_not_while_its_lane_is_paused(database: str) -> None:
    async with migrated(database) as pool:
        await batch_of(pool)
        await run(pool, "UPDATE batch SET sealed_at = now() - interval '2 hours'")
        census = census_of(pool)
        await census.gauge()
        assert 7190 < (shown("penstock_quota_wait_seconds", lane=LANE) or 0) < 7300
        await run(pool, "INSERT INTO pause VALUES ('account', $1, 'a test', now() - interval '3 hours')", ACCOUNT)
        await census.gauge()
        assert shown("penstock_quota_wait_seconds", lane=LANE) is None
        assert shown("penstock_pauses", kind="account") == 1
        assert 10790 < (shown("penstock_pause_age_seconds", kind="account") or 0) < 10900
        assert shown("penstock_pause_age_seconds", kind="topic") == 0


async def test_output_files_age_while_their_batch_is_not_published(database: str) -> None:
    async with migrated(database) as pool:
        batch_id = await batch_of(pool)
        census = census_of(pool)
        await census.gauge()
        assert shown("penstock_provider_files_life_ratio", account=ACCOUNT) == 1
        await run(pool, ENDED, batch_id)
        await run(pool, "UPDATE batch SET state = 'submitted'")
        await run(pool, COLLECTABLE, batch_id)
        await census.gauge()
        assert 0.49 < (shown("penstock_provider_files_life_ratio", account=ACCOUNT) or 0) < 0.51
        assert (shown("penstock_uncollected_age_seconds", account=ACCOUNT) or 0) > 86_400
        decided = "UPDATE batch SET state = 'decided', decision_id = id, decided_at = now(), parked_reason = 'gone'"
        await run(pool, decided)
        await census.gauge()
        assert 0.49 < (shown("penstock_provider_files_life_ratio", account=ACCOUNT) or 0) < 0.51
        assert shown("penstock_parked_batches") == 1
        assert shown("penstock_uncollected_age_seconds", account=ACCOUNT) == 0


async def test_a_create_that_was_looked_up_a_moment_ago_and_an_account_that_is_gone_are_no_work_now(
    database: str,
) -> None:
    async with migrated(database) as pool:
        work = {"stage": "submitter", "account": ACCOUNT}
        batch_id = await batch_of(pool)
        await run(pool, "INSERT INTO intent (id, batch_id, account) SELECT id, id, $1 FROM batch", ACCOUNT)
        await run(pool, "UPDATE batch SET state = 'creating', file_id = 'file_1' WHERE id = $1", batch_id)
        census = census_of(pool)
        for looked_up, shown_work in (("NULL", 1), ("clock_timestamp()", 0), ("now() - interval '1 minute'", 1)):
            await run(pool, f"UPDATE intent SET looked_up_at = {looked_up}")
            await census.gauge()
            assert shown("penstock_actionable_work", **work) == shown_work
        census.accounts = {}
        await census.gauge()
        assert shown("penstock_actionable_work", **work) is None


async def test_limits_are_shown_beside_what_they_bind(database: str) -> None:
    async with migrated(database) as pool:
        await batch_of(pool)
        await run(pool, "INSERT INTO intent (id, batch_id, account) SELECT id, id, $1 FROM batch", ACCOUNT)
        await run(pool, "UPDATE lane SET halted_reason = 'a test'")
        await census_of(pool).gauge()
        assert shown("penstock_creates_used", account=ACCOUNT) == 1
        assert shown("penstock_creates_limit", account=ACCOUNT) == 77
        assert shown("penstock_lanes_halted") == 1
        assert shown("penstock_postgres_size_limit_bytes") == 123
        assert (shown("penstock_postgres_size_bytes") or 0) > 1_000_000


async def test_who_lost_the_lease_shows_nothing_even_without_a_database(database: str) -> None:
    async with migrated(database) as pool:
        await batch_of(pool)
        census = census_of(pool)
        await census.round()
        assert shown("penstock_queue_requests", lane=LANE, stage="sealed") == 2
        assert census.lease is not None
        census.lease.lost = True
    await census.guarded_round()
    assert census.failures == 1
    assert shown("penstock_queue_requests", lane=LANE, stage="sealed") is None
    assert shown("penstock_postgres_size_bytes") == 0
