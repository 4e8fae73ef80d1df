"""Creates of an hour when a thousand lanes get a request a minute: the real sealer on the real database.

Time is made short: each step moves the rows' times back by a quarter of a minute, as if the database's clock had gone
on. The provider is left out: a create is announced and taken as answered.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from penstock.core.batch import ProviderBatch
from penstock.postgres.intake_store import IntakeStore, store_chunks
from penstock.stages.granter import Granter
from penstock.stages.lease import Lease
from penstock.stages.sealer import Sealer
from penstock.stages.submitter import Submitter
from tests.benchmark.figure import Figure
from tests.benchmark.ground import Ground, Parts, parts
from tests.support.rows import CLUSTER, LANE, chunk_of

LANES = 1000
MINUTES = 100
STEP = timedelta(seconds=15)
STEPS_A_MINUTE = 4
PER_HOUR = 2000
LANES_FILE = f"lanes_max = {LANES}\n[defaults]\nage_max_seconds = 300\nenqueued_tokens_max = 1000000000\n"
PASS = (
    "UPDATE chunk SET created_at = created_at - $1::interval, not_before = not_before - $1 WHERE taken < requests",
    "UPDATE intent SET intended_at = intended_at - $1::interval",
)
CREATED = "SELECT count(*) FROM intent WHERE intended_at > clock_timestamp() - interval '1 hour'"
OLDEST_MINUTES = 45
"""A turn of all lanes takes half an hour of creates."""
OLDEST = "SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float FROM chunk WHERE taken < requests"


async def measure(ground: Ground) -> Sequence[Figure]:
    """The most creates of any hour, those of the last one, and how old what still waits has become."""
    environment = await ground.environment(await ground.topic("requests"))
    lanes_file = ground.folder / "lanes.toml"
    lanes_file.write_text(LANES_FILE)
    environment |= {
        "PENSTOCK_LANES_FILE": str(lanes_file),
        "PENSTOCK_LEASE_SECONDS": "3600",  # the sealer's rounds are called from here, with much between them
        "PENSTOCK_PROVIDER_CREATES_PER_HOUR": str(PER_HOUR),
    }
    async with parts(environment) as bridge:
        account = bridge.composition.settings.provider.account
        keys = [LANE._replace(account=account, model=f"model-{number}") for number in range(LANES)]
        lanes = await IntakeStore(bridge.database, CLUSTER).open_lanes(keys, LANES)
        most = created = 0
        for _ in range(MINUTES):
            async with bridge.database.transaction() as connection:
                await store_chunks(connection, [(lane_id, chunk_of(1)) for lane_id in lanes.values()])
            for _ in range(STEPS_A_MINUTE):
                await step(bridge)
                created = await value(bridge, CREATED)
                most = max(most, created)
        oldest = await value(bridge, OLDEST)
    what = f"{LANES:,} lanes at 1 request a minute"
    return [
        Figure(f"most creates of any hour, {what}", most, "", most=PER_HOUR),
        Figure(f"creates of the last hour, {what}", created, ""),
        Figure(f"age of the oldest request that waits for a create, {what}", oldest / 60, "min", most=OLDEST_MINUTES),
    ]


async def value(bridge: Parts, query: str) -> Any:
    """The one value of a query."""
    async with bridge.database.pool.acquire() as connection:
        return await connection.fetchval(query)


async def step(bridge: Parts) -> None:
    """Time goes on, the sealer has a round, and what it sealed is announced and created."""
    sealer, submitter, granter = (bridge.stages[name] for name in ("sealer", "submitter", "granter"))
    assert isinstance(sealer, Sealer)
    assert isinstance(submitter, Submitter)
    assert isinstance(granter, Granter)
    async with bridge.database.pool.acquire() as connection:
        for move in PASS:
            await connection.execute(move, STEP)
    sealer.sealed_by_age_at[submitter.account] -= STEP.total_seconds()
    await sealer.round()
    store = submitter.store
    for account, model in await store.models_waiting():
        await store.reserve(account, model, granter.limit_of)
    while (claim := await store.claim(submitter.account, 60.0)) is not None:
        batch = claim.batch
        lease = Lease(f"batch/{batch.id}", claim.epoch, 60.0, math.inf, 0.0)
        await store.store_file(lease, batch.id, "file")
        intent_id = await store.intend(lease, batch, PER_HOUR)
        if intent_id is None:
            await store.postpone(lease, batch.id, 0.0)
            return
        answer = ProviderBatch(f"batch-{batch.id}", "validating", None, None, None, None, (), {}, 0, 0, 0)
        await store.landed(lease, batch.id, intent_id, answer, adopted=False)
