"""What an account's key must know, if it is the right one."""

from penstock.core.errors import ProviderDenied
from penstock.postgres.database import Database
from penstock.telemetry.failpoint import failpoint


class AccountStore:
    """The provider's ids of an account's batches, and the halts of accounts that the provider refuses."""

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

    @failpoint("account.halt")
    async def halt(self, account: str, stage: str, error: ProviderDenied, again_seconds: float) -> None:
        """Remember that the provider refuses an account, with its code and words; it is tried again by itself.

        Args:
            account: the account.
            stage: `submitter`, `poller` or `publisher`: who met the refusal, and whose calls wait.
            error: what the provider said.
            again_seconds: until the next try, unless a later one is set.
        """
        said = error.operation, error.code, error.detail
        async with self.database.transaction() as connection:
            await connection.execute("halt_account", account, stage, *said, again_seconds)

    @failpoint("account.halted")
    async def halted(self, account: str, stage: str) -> bool:
        """Whether an account is halted for a stage."""
        return bool(await self.database.fetch("account_halted", account, stage))

    @failpoint("account.end_halt")
    async def end_halt(self, account: str, stage: str) -> None:
        """Remember that the provider takes a stage's calls again."""
        async with self.database.transaction() as connection:
            await connection.execute("end_account_halt", account, stage)
