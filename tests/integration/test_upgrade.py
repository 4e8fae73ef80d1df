"""The released version before this one, taken from the history: its replicas beside ours, on the schema of ours."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge, open_bridge
from tests.support.load import load
from tests.support.service import Service, run_logged
from tests.support.simulator import SERVICE
from tests.support.stack import fresh_database

RELEASED = "46cdd77ec466e1bedd915efb256c747523851463"
"""The commit of 0.1.0."""
MIGRATE_SECONDS = 60.0


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released version's packages."""
    folder = tmp_path_factory.mktemp("released")
    root = SERVICE.parent
    archive = subprocess.run(["git", "-C", root, "archive", RELEASED, "service"], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the history with the released version is not here: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder / "service"


async def migrate(source: Path, dsn: str, log: Path) -> None:
    """Bring the schema up to that of a version, as its operator does."""
    environment = {"PENSTOCK_POSTGRES_DSN": dsn, "PYTHONPATH": str(source)}
    process = await run_logged([sys.executable, "-m", "penstock", "migrate"], log, environment)
    async with asyncio.timeout(MIGRATE_SECONDS):
        assert await process.wait() == 0, log.read_text()


@pytest.fixture
async def bridge(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path, released: Path
) -> AsyncIterator[Bridge]:
    """A bridge whose database has the schema of the released version."""
    async with fresh_database(postgres) as dsn:
        await migrate(released, dsn, tmp_path / "released.log")
        template = urlsplit(dsn).path.removeprefix("/")
        async with open_bridge(kafka, postgres, tmp_path, template=template) as opened:
            yield opened


async def replica(stack: AsyncExitStack, bridge: Bridge, source: Path, generation: int) -> Service:
    """A replica of a version that has begun to work."""
    service = await stack.enter_async_context(bridge.service(source=source, generation=generation))
    await service.reached("penstock_rebalances_total", 1)
    return service


async def test_the_released_version_is_upgraded_and_rolled_back_under_load(bridge: Bridge, released: Path) -> None:
    async with AsyncExitStack() as stack:
        before = [await replica(stack, bridge, released, 1) for _ in range(2)]
        async with load(bridge) as requests:
            await bridge.results(20)
            await migrate(SERVICE, bridge.dsn, bridge.folder / "migrate.log")
            after = await replace(stack, bridge, before, SERVICE, 2)
            await bridge.results(requests.sent + 20)
            await replace(stack, bridge, after, released, 1)
            await bridge.results(requests.sent + 20)


def test_what_a_release_has_migrated_is_never_changed(released: Path) -> None:
    folder = Path("penstock", "postgres", "migrations")
    files = sorted((released / folder).iterdir())
    assert files
    for file in files:
        assert (SERVICE / folder / file.name).read_bytes() == file.read_bytes(), f"{file.name}: add another one instead"


async def replace(
    stack: AsyncExitStack, bridge: Bridge, old: list[Service], source: Path, generation: int
) -> list[Service]:
    """Replace replicas one by one, each with one of another version that works before the old one is ended."""
    new = []
    for each in old:
        new.append(await replica(stack, bridge, source, generation))
        assert await each.stop() == 0
    for each in new:
        await each.reached("penstock_partitions_assigned", 1)
    return new
