"""The janitor: what is ours, and what is still needed."""

import re
import uuid

import penstock.stages.janitor
from penstock.postgres.deployment_store import DeploymentStore
from penstock.postgres.janitor_store import JanitorStore, Owner
from penstock.postgres.publisher_store import PublisherStore
from penstock.provider.client import ProviderClient
from penstock.stages.janitor import Janitor
from penstock.stages.lease import Lease
from penstock.telemetry.failpoint import failpoint
from tests.defences.switches.registry import Patch, defence, reword

BATCH = re.compile(r"penstock-.*-([0-9a-f]{32})-[0-9a-f]{64}\.jsonl")


@defence("B4")
def own_deployment(patch: Patch) -> None:
    """Whatever names one of our batches is taken as ours."""

    def batch_of_file(_: str, name: str) -> uuid.UUID | None:
        found = BATCH.fullmatch(name)
        return uuid.UUID(hex=found[1]) if found else None

    patch.setattr(Janitor, "is_mine", lambda *_: True)
    patch.setattr(penstock.stages.janitor, "batch_of_file", batch_of_file)


@defence("B4", 10)
def other_non_null_id(patch: Patch) -> None:
    """A batch that its row does not name is superfluous, also while the row names none."""

    def superfluous(owner: Owner, provider_batch_id: str) -> bool:
        return owner.provider_batch_id != provider_batch_id

    patch.setattr(penstock.stages.janitor, "superfluous", superfluous)


@defence("B4")
def rows_after_listing(patch: Patch) -> None:
    """Rows are read before the provider's list."""
    settle_spares = Janitor.settle_spares

    async def read_first(self: Janitor, lease: Lease, account: str) -> None:
        async with self.store.database.transaction() as connection:
            ids = [row["id"] for row in await connection.raw.fetch("SELECT id FROM batch")]
        owners = await self.store.owners(ids)

        async def earlier(*_: object) -> dict[uuid.UUID, Owner]:
            return owners

        with patch.context() as stale:
            stale.setattr(JanitorStore, "owners", earlier)
            await settle_spares(self, lease, account)

    patch.setattr(Janitor, "settle_spares", read_first)


@defence("P5")
def file_grace(patch: Patch) -> None:
    """Provider files go as soon as a batch is published."""
    reword(patch, "files_due", ("b.published_at < statement_timestamp() - make_interval(secs => $2)", "$2::float >= 0"))


@defence("P8")
def kept_files(patch: Patch) -> None:
    """The file that a dead letter names is not kept."""
    mark = PublisherStore.mark

    async def forget(self: PublisherStore, lease: Lease, batch_id: uuid.UUID, position: int, **_: bool) -> None:
        await mark(self, lease, batch_id, position, keep_files=False)

    patch.setattr(PublisherStore, "mark", forget)


@defence("way of the data, 7", 18)
def deleted_twice(patch: Patch) -> None:
    """A file that is gone already cannot be deleted."""

    async def delete(self: ProviderClient, file_id: str) -> None:
        await self.call("files.delete", lambda: self.sdk.files.delete(file_id))

    patch.setattr(ProviderClient, "delete_file", failpoint("files.delete")(delete))


@defence("B4")
def deployment_bound(patch: Patch) -> None:
    """A replica starts whatever deployment, cluster or ledger the database belongs to."""

    async def anywhere(*_: object) -> None:
        return

    patch.setattr(DeploymentStore, "bind", anywhere)
