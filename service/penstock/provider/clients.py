"""The clients of all accounts."""

import asyncio
from collections.abc import Mapping

from penstock.core.errors import ProviderUnavailable
from penstock.provider.client import ProviderClient


class ProviderClients:
    """One client for each account that is configured.

    Args:
        clients: by the account's name.
    """

    def __init__(self, clients: Mapping[str, ProviderClient]) -> None:
        self.clients = dict(clients)

    def of(self, account: str) -> ProviderClient:
        """An account's client.

        Raises:
            ProviderUnavailable: the account is configured no more; what is in flight there waits for it.
        """
        client = self.clients.get(account)
        if client is None:
            raise ProviderUnavailable("account", f"{account} is not configured; put it back into the lanes file")
        return client

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(each.close() for each in self.clients.values()))
