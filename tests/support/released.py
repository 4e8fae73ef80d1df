"""The released version before this one, taken from the history."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge, open_bridge
from tests.support.service import run_logged
from tests.support.simulator import SERVICE
from tests.support.stack import fresh_database

COMMIT = "46cdd77ec466e1bedd915efb256c747523851463"
"""Of 0.1.0."""
MIGRATE_SECONDS = 60.0


def extract(folder: Path) -> Path:
    """Its tree, in a folder. Skips the test where the history is not there, as in a copy without git."""
    root = SERVICE.parent
    archive = subprocess.run(["git", "-C", root, "archive", COMMIT], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the history with the released version is not here: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


async def migrate(source: Path, dsn: str, log: Path) -> None:
    """Bring the schema up to that of a version, given by the folder of its packages, as its operator does."""
    environment = {"PENSTOCK_POSTGRES_DSN": dsn, "PYTHONPATH": str(source)}
    process = await run_logged([sys.executable, "-m", "penstock", "migrate"], log, environment)
    async with asyncio.timeout(MIGRATE_SECONDS):
        assert await process.wait() == 0, log.read_text()


@asynccontextmanager
async def released_bridge(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, folder: Path, source: Path
) -> AsyncIterator[Bridge]:
    """A bridge whose database has the schema of the released version."""
    async with fresh_database(postgres) as dsn:
        await migrate(source, dsn, folder / "released.log")
        template = urlsplit(dsn).path.removeprefix("/")
        async with open_bridge(kafka, postgres, folder, template=template) as bridge:
            yield bridge
