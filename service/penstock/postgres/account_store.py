"""What an account's key must know, if it is the right one."""

from penstock.postgres.database import Database
from penstock.telemetry.failpoint import failpoint


class AccountStore:
    """The provider's ids of an account's batches."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @failpoint("account.made_there")
    async def made_there(self, account: str, most: int) -> tuple[list[str], list[str]]:
        """The newest batches of which the account still owes us something, and those that are published.

        Args:
            account: the account.
            most: of each kind.
        """
        async with self.database.transaction() as connection:
            needed = await connection.fetch("batches_needed", account, most)
            kept = await connection.fetch("batches_kept", account, most)
        return [row["provider_batch_id"] for row in needed], [row["provider_batch_id"] for row in kept]
