"""`penstock demo` on the session's Kafka and Postgres, with a small file; `make demo` starts its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil
import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.command import penstock
from tests.support.request import chat, embedding, moderation
from tests.support.simulator import SERVICE
from tests.support.stack import admin_client

SECONDS = 60.0
OWN = ("--use-environment", "--yes")


@pytest.fixture
def environment(kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path) -> dict[str, str]:
    return {
        "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "PENSTOCK_POSTGRES_DSN": postgres.dsn,
        "TMPDIR": str(tmp_path),
    }


async def left_behind(kafka: EmbeddedKafka, postgres: EmbeddedPostgres, folder: Path) -> list[str]:
    """Topics, schemas and folders; the broker tells of a topic for a moment after it has deleted it."""
    deadline = time.monotonic() + SECONDS
    async with admin_client(kafka) as admin:
        while topics := [topic for topic in await admin.list_topics() if topic.startswith("demo-")]:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
    connection = await asyncpg.connect(postgres.dsn)
    try:
        rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'demo%'")
    finally:
        await connection.close()
    return [*topics, *(row["nspname"] for row in rows), *(each.name for each in folder.glob("penstock-demo-*"))]


async def test_every_request_of_a_file_comes_back_once_and_nothing_is_left(
    environment: dict[str, str], kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    lines = [make(f"{make.__name__}-{n}") for make in (chat, embedding, moderation) for n in range(20)]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join([*map(json.dumps, lines), "broken", "", json.dumps(lines[0])]))
    finished = await penstock(environment, "demo", "--input", file, *OWN)
    assert finished.code == 0, finished
    assert "every request came back exactly once" in finished.out
    for figure in ("requests in   62", "results out   61", "dead letters  1"):
        assert figure in finished.out
    assert await left_behind(kafka, postgres, tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_all_its_processes(
    environment: dict[str, str], kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path, number: int
) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    command = [sys.executable, "-m", "penstock", "demo", *OWN]
    with tempfile.TemporaryFile() as log:
        # In a shell's background job it is ignored, and children inherit that.
        ours = signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            command, env={**own, "PYTHONPATH": str(SERVICE), **environment}, stdout=log, stderr=log
        )
        signal.signal(signal.SIGINT, ours)
        children: list[psutil.Process] = []
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and len(children) < 4:
            time.sleep(0.05)
            children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 4  # the simulator and the service, each with its watchdog
        process.send_signal(number)
        assert process.wait(SECONDS) == 130
        _, alive = psutil.wait_procs(children, SECONDS)
        log.seek(0)
        assert b"Traceback" not in log.read()
    assert alive == []
    assert await left_behind(kafka, postgres, tmp_path) == []
