"""A migrated database and an account at the simulator, for stages that a test runs in its own process."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from openai.types import Batch
from pydantic import SecretStr

from penstock.postgres.database import Database
from penstock.postgres.submitter_store import SubmitterStore
from penstock.provider.answer import provider_batch
from penstock.provider.client import ProviderClient
from penstock.settings import ProviderSettings
from penstock.stages.lease import Lease
from tests.support.rows import ACCOUNT, LANE, batch_of, migrated
from tests.support.simulator import Simulator, chat_lines, create_batch

DEPLOYMENT = "mine"


@dataclass(frozen=True, slots=True)
class Account:
    """What stages use; `sdk` is the test's own client."""

    pool: Database
    simulator: Simulator
    client: ProviderClient
    sdk: AsyncOpenAI

    async def create(self, batch_id: uuid.UUID, deployment: str = DEPLOYMENT) -> Batch:
        """Create a batch at the provider, named as a deployment names them."""
        metadata = {"penstock_deployment": deployment, "penstock_batch": batch_id.hex, "penstock_create": "any"}
        return await create_batch(self.sdk, chat_lines(2), metadata=metadata)

    async def submit(self, **fields: Any) -> tuple[uuid.UUID, str]:
        """A submitted batch: its id here and at the provider.

        Args:
            fields: of its row, to be changed once it is submitted.
        """
        batch_id, _ = await self.announce()
        answer = await self.create(batch_id)
        row: dict[str, Any] = {
            "state": "submitted",
            "provider_batch_id": answer.id,
            "provider_status": answer.status,
            "provider_open": True,
            "submitted_at": provider_batch(answer).created_at,
            "expires_at": provider_batch(answer).expires_at,
        }
        await self.set(batch_id, **{**row, **fields})
        return batch_id, answer.id

    async def announce(self) -> tuple[uuid.UUID, uuid.UUID]:
        """A batch whose create is announced, and that create's id."""
        batch_id, store = await batch_of(self.pool), SubmitterStore(self.pool, uuid.uuid4(), 60.0, 4)
        await store.reserve(ACCOUNT, LANE.model, lambda *_: 10**6)
        claim = await store.claim(ACCOUNT, 60.0)
        assert claim is not None
        lease = Lease(f"batch/{batch_id}", claim.epoch, 60.0, float("inf"), 0.0)
        await store.store_file(lease, batch_id, "file-1")
        intent_id = await store.intend(lease, claim.batch, 100)
        assert intent_id is not None
        return batch_id, intent_id

    async def set(self, batch_id: uuid.UUID, **fields: Any) -> None:
        """Change a batch's row."""
        changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(fields, 2))
        async with self.pool.pool.acquire() as connection:
            await connection.execute(f"UPDATE batch SET {changes} WHERE id = $1", batch_id, *fields.values())

    async def row(self, batch_id: uuid.UUID) -> dict[str, Any]:
        """A batch's row."""
        async with self.pool.pool.acquire() as connection:
            return dict(await connection.fetchrow("SELECT * FROM batch WHERE id = $1", batch_id))

    async def status(self, provider_batch_id: str) -> str:
        """What the provider says of a batch."""
        return (await self.sdk.batches.retrieve(provider_batch_id)).status


@asynccontextmanager
async def opened_account(dsn: str, folder: Path) -> AsyncIterator[Account]:
    """An account without batches."""
    async with migrated(dsn) as pool, Simulator(folder / "simulator") as simulator, simulator.client() as sdk:
        settings = ProviderSettings(
            account=ACCOUNT, base_url=simulator.base_url, api_key=SecretStr("sk-test"), timeout_seconds=5
        )
        client = ProviderClient(settings)
        try:
            yield Account(pool, simulator, client, sdk)
        finally:
            await client.close()
