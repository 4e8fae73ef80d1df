"""A collector that a test runs in its own process."""

from penstock.core.lane import Lanes
from penstock.postgres.account_store import AccountStore
from penstock.postgres.batch_row import ChunkReader
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Database
from penstock.stages.collector import Collector
from penstock.stages.refusals import Refusals


def collector_of(pool: Database, slots: int) -> Collector:
    """Of lanes that nobody configured; a result that is unreadable twice is answered."""
    store, lanes = CollectorStore(pool, slots), Lanes()
    return Collector(store, ChunkReader(pool), lanes, str, 2, Refusals(store, AccountStore(pool), lanes))
