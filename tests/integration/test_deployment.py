"""One database serves one deployment, on one cluster, with one ledger (B4)."""

import uuid

import pytest

from penstock.core.errors import ConfigurationError
from penstock.postgres.deployment_store import DeploymentStore
from tests.support.rows import migrated

LEDGER, SLOTS = uuid.uuid4(), 4


@pytest.mark.defence("deployment_bound")
@pytest.mark.parametrize(
    ("deployment", "cluster", "ledger"),
    [("another", "cluster", LEDGER), ("mine", "another", LEDGER), ("mine", "cluster", uuid.uuid4())],
    ids=["deployment", "cluster", "ledger"],
)
async def test_a_replica_that_belongs_elsewhere_does_not_start(
    database: str, deployment: str, cluster: str, ledger: uuid.UUID
) -> None:
    """Off: it works on another's windows, and publishes them elsewhere."""
    async with migrated(database) as pool:
        for _ in range(2):
            await DeploymentStore(pool).bind("mine", "cluster", LEDGER, SLOTS)
        with pytest.raises(ConfigurationError):
            await DeploymentStore(pool).bind(deployment, cluster, ledger, SLOTS)
