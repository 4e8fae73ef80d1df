"""`penstock demo --faults`, whole, by several seeds."""

from pathlib import Path

import pytest

from penstock.demo.storm import Storm
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.command import penstock


@pytest.mark.parametrize("seed", ["1", "2", "3", "4", "5"])
async def test_every_request_comes_back_once_in_a_storm_and_every_fault_is_met(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path, seed: str
) -> None:
    servers = {"PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "PENSTOCK_POSTGRES_DSN": postgres.dsn}
    finished = await penstock({**servers, "TMPDIR": str(tmp_path)}, "demo", "--faults", seed, timeout_seconds=300)
    assert finished.code == 0, finished
    assert "every request came back exactly once" in finished.out
    assert f"faults of {len(Storm.of(seed).names)} kinds" in finished.out
    assert not [line for line in finished.out.splitlines() if line.lstrip().startswith("0  ")]
