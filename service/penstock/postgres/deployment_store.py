"""The deployment's binding to a Kafka cluster and a ledger (B4)."""

import uuid

from penstock.core.errors import ConfigurationError
from penstock.postgres.database import Database
from penstock.telemetry.failpoint import failpoint


class DeploymentStore:
    """One database serves one deployment on one cluster."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @failpoint("start.bind")
    async def bind(self, deployment: str, kafka_cluster_id: str, ledger_topic_id: uuid.UUID, partitions: int) -> None:
        """Bind the deployment at its first start; compare at every later one.

        Raises:
            ConfigurationError: the database belongs to another deployment, cluster or ledger.
        """
        async with self.database.transaction() as connection:
            if not await connection.fetch("bound_deployments"):
                await connection.execute("bind_deployment", deployment, kafka_cluster_id, ledger_topic_id, partitions)
            (row, *others) = await connection.fetch("bound_deployments")
        if others or row["id"] != deployment:
            raise ConfigurationError(f"the database serves deployment {row['id']!r}: see PENSTOCK_DEPLOYMENT")
        if row["kafka_cluster_id"] != kafka_cluster_id:
            raise ConfigurationError(
                f"the database belongs to Kafka cluster {row['kafka_cluster_id']}, the brokers are {kafka_cluster_id}"
            )
        if row["ledger_topic_id"] != ledger_topic_id:
            raise ConfigurationError("the ledger is another topic than the one that this deployment began with")
