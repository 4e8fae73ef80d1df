"""Whether an account's key is of the project that made our batches: with another one's, all of them are 404 (W1)."""

import structlog

from penstock.core.errors import ProviderDenied, ProviderMissing
from penstock.postgres.account_store import AccountStore
from penstock.provider.clients import ProviderClients

log = structlog.get_logger()

SAMPLE = 3
"""How many batches of each kind are asked for: one could be forgotten."""
GRACE_SECONDS = 86_400.0
"""An operator has a day to mend a key that knows none of ours, before what is missing goes again."""


class Acquaintance:
    """Asks once for each key.

    Until a key is known nothing is created with it, and nothing is taken as lost by its word: what is 404 to it may be
    there for another, and be paid for again.
    """

    def __init__(self, store: AccountStore, clients: ProviderClients) -> None:
        self.store = store
        self.clients = clients
        self.known: dict[str, int] = {}

    async def denied(self, account: str, stage: str, error: ProviderDenied, again_seconds: float) -> None:
        """Show operators that the provider refuses a stage's calls, and when the next one is tried."""
        await self.store.halt(account, stage, error, again_seconds)

    async def allowed(self, account: str, stage: str) -> None:
        """Show operators that the provider takes a stage's calls."""
        await self.store.end_halt(account, stage)

    async def knows(self, account: str, *, afresh: bool = False) -> bool:
        """Whether the account's key knows any of our batches, or there is none that it would have to know.

        Args:
            account: the account.
            afresh: ask, although the key was known before.

        Raises:
            ProviderError: the provider does not say.
        """
        client = self.clients.of(account)
        key = client.keys
        if self.known.get(account) == key and not afresh:
            return True
        needed, kept = await self.store.made_there(account, SAMPLE)
        for provider_batch_id in [*needed, *kept] if needed else []:
            try:
                await client.retrieve(provider_batch_id)
            except ProviderMissing:
                continue
            break
        else:
            if needed:
                self.known.pop(account, None)
                client.renew()  # no 401 comes that would have a mended key read
                log.warning("key.strange", account=account, batches=len(needed))
                return False
        self.known[account] = key
        return True
