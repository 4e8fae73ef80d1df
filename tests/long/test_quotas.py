"""A broker that holds producers to a quota."""

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from tests.support.bridge import Bridge
from tests.support.quota import producer_quota
from tests.support.request import line

REQUESTS = 160
QUOTA = 60_000.0
"""Bytes a second of each slot's producer."""
TIMEOUT_SECONDS = 9.0


@pytest.mark.outcome("kafka-quota")
async def test_transactions_shrink_until_a_quota_takes_them(bridge: Bridge, kafka: EmbeddedKafka) -> None:
    """All results are less than one transaction may hold, and more than the quota takes before the time-out."""
    async with (
        producer_quota(kafka.bootstrap_servers, QUOTA),
        bridge.service(publisher_transaction_timeout_seconds=TIMEOUT_SECONDS),
    ):
        await bridge.produce(
            (
                line(f"r-{n}", "/v1/embeddings", "text-embedding-3-small", input=f"text {n}", dimensions=1536)
                for n in range(REQUESTS)
            ),
            partition=0,
        )
        await bridge.results(REQUESTS, timeout_seconds=300)
        await bridge.check()
