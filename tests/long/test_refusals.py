"""Fifty thousand bad lines in one window, refused one at a time by the simulator."""

from pathlib import Path
from typing import Any

import pytest

from penstock.core.batch import CREATES_MAX, LINES_LOST_MAX
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import open_bridge
from tests.support.request import CANARY, line

WINDOW = 50_000
PIECES = 16
"""So many pieces of a window may be under way when its last create is counted."""
LANES = "[defaults]\nage_max_seconds = 60\n"
SETTINGS: dict[str, Any] = {
    "poller_interval_max_seconds": 0.1,
    "poller_interval_seconds": 0.1,
    "submitter_concurrency": 8,
}


@pytest.mark.outcome("refused-all-lines")
async def test_fifty_thousand_bad_lines_cost_a_bounded_number_of_uploads(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    failure = {"code": "invalid_request", "param": "body", "message": "Bad.", "contains": CANARY}
    async with (
        open_bridge(kafka, postgres, tmp_path, partitions=1, lanes=LANES) as bridge,
        bridge.service(**SETTINGS) as service,
    ):
        await bridge.simulator.faults([{"batch": {"end": "failed", "failure": failure}}])
        await bridge.produce(line(f"r-{n}", "/v1/moderations", "bad", input=CANARY) for n in range(WINDOW))
        answers = await bridge.results(WINDOW, timeout_seconds=300)
        uploads = await service.metric("penstock_provider_calls_total", operation="files.create")
        assert {each.json["error"]["code"] for each in answers} == {"invalid_request"}
        assert LINES_LOST_MAX + 1 < uploads <= CREATES_MAX + PIECES
        await bridge.check()
