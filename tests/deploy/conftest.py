"""What the tests of the deployment share: the tools, a control plane, and the built images."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.control_plane import ControlPlane, running
from tests.deploy.image import Podman
from tests.deploy.tools import build_all, folder


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of the tools' programs."""
    build_all()
    return folder() / "bin"


@pytest.fixture(scope="session")
def plane(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with everything behind it but nodes."""
    assert tools.is_dir()
    with running(tmp_path_factory.mktemp("plane")) as started:
        yield started


@pytest.fixture(scope="session")
def podman() -> Podman:
    """Builds and runs images."""
    return Podman()


@pytest.fixture(scope="session")
def service_image(podman: Podman) -> str:
    """The tag of the service's image, as the working tree is."""
    return podman.build("service")


@pytest.fixture(scope="session")
def simulator_image(podman: Podman) -> str:
    """The tag of the simulator's image."""
    return podman.build("simulator")
