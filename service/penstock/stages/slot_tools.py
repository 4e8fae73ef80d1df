"""What every session of a slot shares: adapters, limits, and what this process remembers of batches."""

import uuid
from collections import Counter
from dataclasses import dataclass, field

from penstock.postgres.batch_row import ChunkReader
from penstock.postgres.publisher_store import PublisherStore
from penstock.settings import KafkaSettings, PublisherSettings
from penstock.stages.collector import Collector
from penstock.stages.downloader import Downloader
from penstock.stages.transaction_size import TransactionSize


@dataclass(slots=True)
class Patience:
    """A batch that could not be finished now: how often, and until when it waits. Lost with the process."""

    failures: int = 0
    until: float = 0.0


@dataclass(slots=True)
class SlotTools:
    """What every session of this process uses."""

    kafka: KafkaSettings
    settings: PublisherSettings
    ledger_grace_seconds: float
    ledger_topic_id: uuid.UUID
    store: PublisherStore
    reader: ChunkReader
    downloader: Downloader
    collector: Collector
    limits: dict[str, int]
    """The largest record of each result and dead-letter topic, in bytes."""
    patience: dict[uuid.UUID, Patience] = field(default_factory=dict)
    refused_sizes: Counter[uuid.UUID] = field(default_factory=Counter)
    """How often the broker refused a record of a batch for its size: large results become dead letters (P8)."""
    size: TransactionSize = field(init=False)

    def __post_init__(self) -> None:
        self.size = TransactionSize(self.settings.transaction_bytes_max, self.settings.transaction_timeout_seconds / 3)
