"""A downloader that a test runs in its own process."""

import time
import uuid
from pathlib import Path

from penstock.postgres.account_store import AccountStore
from penstock.postgres.batch_row import BatchRow
from penstock.provider.clients import ProviderClients
from penstock.settings import SpoolSettings
from penstock.spool import Spool
from penstock.stages.acquaintance import Acquaintance
from penstock.stages.downloader import Downloader, Spooled
from penstock.stages.lease import Lease
from tests.support.account import Account
from tests.support.rows import ACCOUNT


def downloader_of(account: Account, folder: Path) -> Downloader:
    """Of one account, with a spool in a folder; what is missing is waited for for an hour."""
    clients = ProviderClients({ACCOUNT: account.client})
    spool = Spool(SpoolSettings(folder=folder), uuid.uuid4())
    spool.folder.mkdir(parents=True)
    return Downloader(clients, spool, Acquaintance(AccountStore(account.pool), clients), 3600.0)


def long_lease() -> Lease:
    """A slot's lease that outlasts every test."""
    return Lease("slot/1", 1, 1e9, float("inf"), time.monotonic())


async def spooled(downloader: Downloader, batch: BatchRow) -> Spooled:
    """What a download finds; its files are gone again."""
    async with downloader.spooled(batch, long_lease()) as found:
        return found
