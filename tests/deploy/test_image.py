"""The image as a pod runs it: a read-only root, a user id that nobody knows, one request through it."""

import asyncio
import http.client
import json
import os
import secrets
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.embedded.server import free_port
from tests.deploy.image import Container, Podman, started
from tests.support.bridge import Bridge
from tests.support.load import load
from tests.support.released import extract, released_bridge

SECONDS = 120.0
OVER_BASE_BYTES = 200_000_000
BUILD_LEFTOVERS = ("/pip/", "/gcc", "/build/", "/requirements/", ".whl")


def answers(port: int, path: str) -> bool:
    """Whether a page is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


async def answering(port: int, path: str, container: Container) -> None:
    """Wait until a page is answered."""
    try:
        async with asyncio.timeout(SECONDS):
            while not await asyncio.to_thread(answers, port, path):
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"{path} does not answer:\n{container.logs()}") from None


def spool_for(folder: Path, user: int) -> Path:
    """An empty folder that is a user's own, as an emptyDir is its group's."""
    folder.mkdir()
    folder.chmod(0o2770)
    os.chown(folder, user, user)
    return folder


@pytest.mark.timeout(1200)
def test_the_image_says_what_it_is_and_holds_nothing_of_its_build(podman: Podman, service_image: str) -> None:
    told = podman.inspect(service_image)
    config = told["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["penstock"]
    assert told["Healthcheck"]["Test"][0] == "CMD"
    labels = config["Labels"]
    for name in ("title", "description", "licenses", "version", "revision"):
        assert labels[f"org.opencontainers.image.{name}"]
    over_base = told["Size"] - podman.inspect(podman.base())["Size"]
    assert over_base < OVER_BASE_BYTES, f"{over_base / 1e6:.0f} MB over the base"
    everything = podman.files(service_image)
    assert "etc/ssl/certs/ca-certificates.crt" in everything, "the chart names it to verify Postgres by"
    own = [f"/{each}" for each in everything if each.startswith(("opt/", "build/", "requirements/"))]
    assert any(each.endswith("/bin/penstock") for each in own)
    assert [each for each in own if any(part in each for part in BUILD_LEFTOVERS)] == []


@pytest.mark.timeout(1200)
async def test_a_request_goes_through_the_image_as_a_pod_runs_it(
    podman: Podman, service_image: str, bridge: Bridge, tmp_path: Path
) -> None:
    user, port = 100_000 + secrets.randbelow(100_000), free_port()
    files = tmp_path / "files"
    (files / "lanes").mkdir(parents=True)
    (files / "lanes" / "lanes.toml").write_bytes(bridge.lanes.read_bytes())
    (files / "key").write_text("sk-from-a-file\n")
    environment = bridge.environment(
        http_port=port,
        lanes_file="/etc/penstock/lanes/lanes.toml",
        provider_api_key_file="/etc/penstock/key",
        spool_folder="/var/spool/penstock",
    )
    del environment["PENSTOCK_PROVIDER_API_KEY"]
    mounts = {"/var/spool/penstock": spool_for(tmp_path / "spool", user), "/etc/penstock:ro": files}
    container = Container(podman, f"penstock-{port}", service_image, user=user, environment=environment, mounts=mounts)
    with started(container, "run"):
        await answering(port, "/readyz", container)
        asked = await asyncio.to_thread(container.execute, "penstock", "ask", "--timeout-seconds", "60", "-o", "json")
        assert json.loads(asked)["value"]["response"]["status_code"] == 200
        checked = await asyncio.to_thread(container.execute, "penstock", "check")
        assert "everything is ready" in checked
        assert await asyncio.to_thread(container.stop) == 0
        said = container.logs()
    assert '"event": "service.stopped"' in said or '"event":"service.stopped"' in said
    assert "sk-from-a-file" not in said


@pytest.mark.timeout(600)
async def test_the_schema_is_migrated_by_the_image(podman: Podman, service_image: str, database: str) -> None:
    environment = {"PENSTOCK_POSTGRES_DSN": database}
    container = Container(podman, "", service_image, user=100_001, environment=environment, mounts={})
    assert "applied 0001" in await asyncio.to_thread(container.run, "migrate")
    assert "up to date" in await asyncio.to_thread(container.run, "migrate")


@pytest.mark.timeout(1200)
async def test_the_simulator_runs_as_a_pod_does(podman: Podman, simulator_image: str, tmp_path: Path) -> None:
    user, port = 100_002, free_port()
    mounts = {"/var/lib/batchsim": spool_for(tmp_path / "state", user)}
    container = Container(podman, f"batchsim-{port}", simulator_image, user=user, environment={}, mounts=mounts)
    with started(container, "--port", str(port)):
        await answering(port, "/control/state", container)
        assert await asyncio.to_thread(container.stop) == 0


def replica_of(podman: Podman, image: str, bridge: Bridge, folder: Path, generation: int) -> tuple[Container, int]:
    """A container of a replica, not yet started, and its port."""
    user, port = 100_000 + secrets.randbelow(100_000), free_port()
    lanes, place = folder / "lanes.toml", "/etc/penstock/lanes.toml"
    environment = bridge.environment(
        http_port=port, lanes_file=place, spool_folder="/var/spool/penstock", generation=generation
    )
    mounts = {"/var/spool/penstock": spool_for(folder / f"spool-{port}", user), f"{place}:ro": lanes}
    return Container(podman, f"penstock-{port}", image, user=user, environment=environment, mounts=mounts), port


@pytest.mark.timeout(1800)
async def test_the_released_image_is_upgraded_to_this_one_and_rolled_back_under_load(
    podman: Podman, service_image: str, kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    (tree := tmp_path / "tree").mkdir()
    released = extract(tree)
    images = [podman.build("service", released, "released"), service_image, "localhost/penstock-service:released"]
    async with released_bridge(kafka, postgres, tmp_path, released / "service") as bridge, AsyncExitStack() as stack:
        schema = Container(
            podman, "", service_image, user=100_001, environment={"PENSTOCK_POSTGRES_DSN": bridge.dsn}, mounts={}
        )
        before: Container | None = None
        async with load(bridge) as requests:
            for number, image in enumerate(images):
                if image == service_image:
                    assert "applied 0002" in await asyncio.to_thread(schema.run, "migrate")
                replica, port = replica_of(podman, image, bridge, tmp_path, 2 - (number != 1))
                stack.enter_context(started(replica, "run"))
                await answering(port, "/readyz", replica)
                if before is not None:
                    assert await asyncio.to_thread(before.stop) == 0
                await bridge.results(requests.sent + 20, SECONDS)
                before = replica
