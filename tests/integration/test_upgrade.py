"""The released version's replicas beside ours, on the schema of ours. tests/deploy has the same with its image."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge
from tests.support.load import load
from tests.support.released import extract, migrate, released_bridge
from tests.support.service import Service
from tests.support.simulator import SERVICE


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released version's packages."""
    return extract(tmp_path_factory.mktemp("released")) / "service"


@pytest.fixture
async def bridge(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path, released: Path
) -> AsyncIterator[Bridge]:
    """A bridge whose database has the schema of the released version."""
    async with released_bridge(kafka, postgres, tmp_path, released) as opened:
        yield opened


async def replica(stack: AsyncExitStack, bridge: Bridge, source: Path, generation: int) -> Service:
    """A replica of a version that has begun to work."""
    service = await stack.enter_async_context(bridge.service(source=source, generation=generation, drain_seconds=40))
    await service.reached("penstock_rebalances_total", 1)
    return service


@pytest.mark.long
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
