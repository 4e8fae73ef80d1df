"""The image, built and run without a registry or a daemon: podman, and Debian's Python in place of the base image.

`PENSTOCK_BASE_IMAGE` names another base, such as the Dockerfile's own where a registry can be reached.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.embedded.cache import cache_folder
from tests.deploy.command import Failed, attempt, run

ROOT = Path(__file__).parents[2]
STAND_IN = "localhost/python:slim"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
NEEDED = ("podman", "runc", "debootstrap")
LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/graph"\nrunroot = "{0}/run"\n'
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""
STOP_SECONDS = 40


class Podman:
    """Images and containers in a store of their own.

    Raises:
        Failed: what it takes is not on the machine.
    """

    def __init__(self) -> None:
        missing = [each for each in NEEDED if shutil.which(each) is None]
        if missing:
            raise Failed(f"{', '.join(missing)} missing: apt install {' '.join(NEEDED)}")
        self.folder = cache_folder() / "image"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "storage.conf").write_text(STORAGE.format(self.folder))
        (self.folder / "containers.conf").write_text(CONTAINERS)
        (self.folder / "pip.conf").write_text("[global]\ncert = /run/secrets/ca.crt\n")
        self.environment = {
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
        }

    def __call__(self, *arguments: object, seconds: float = 600) -> str:
        """Run podman; returns what it says."""
        return run("podman", *arguments, environment=self.environment, seconds=seconds)

    def exists(self, image: str) -> bool:
        """Whether an image is there."""
        return attempt("podman", "image", "exists", image, environment=self.environment).returncode == 0

    def base(self) -> str:
        """The base image, made if need be."""
        if chosen := os.environ.get("PENSTOCK_BASE_IMAGE"):
            return chosen
        if not self.exists(STAND_IN):
            self.make_stand_in()
        return STAND_IN

    def make_stand_in(self) -> None:
        """Python of Debian 12 and nothing else of use."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            root = Path(name, "root")
            packages = "--include=python3,python3-venv,ca-certificates"
            run("debootstrap", "--variant=minbase", packages, "bookworm", root, *mirror(), seconds=1200)
            for link in ("python3", "python"):
                (root / "usr/local/bin" / link).symlink_to("/usr/bin/python3")
            for each in LEFT_OUT:
                shutil.rmtree(root / each, ignore_errors=True)
            archive = Path(name, "root.tar")
            outside = [f"--exclude=./{each}/*" for each in ("proc", "sys", "dev")]
            run("tar", "-C", root, *outside, "-cf", archive, ".", seconds=600)
            path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
            self("import", "--quiet", "--change", path, archive, STAND_IN)

    def build(self, target: str, context: Path = ROOT, version: str = "test") -> str:
        """Build a target of the Dockerfile of a tree; returns its tag."""
        tag = f"localhost/penstock-{target}:{version}"
        secrets = [f"--secret=id=pipconf,src={self.folder / 'pip.conf'}", f"--secret=id=cabundle,src={AUTHORITIES}"]
        self(
            *("build", "--isolation=chroot", "--network=host", "--format=docker"),
            f"--build-arg=BASE_IMAGE={self.base()}",
            *(f"--target={target}", *secrets, f"--tag={tag}", context),
            seconds=1200,
        )
        return tag

    def inspect(self, image: str) -> dict[str, Any]:
        """What an image says of itself."""
        [told] = json.loads(self("image", "inspect", image))
        found: dict[str, Any] = told
        return found

    def files(self, image: str) -> list[str]:
        """Every file of an image."""
        with tempfile.TemporaryDirectory() as name:
            archive = Path(name, "files.tar")
            container = self("create", image).strip()
            try:
                self("export", "--output", archive, container)
            finally:
                self("rm", container)
            return run("tar", "-tf", archive).splitlines()


class Container:
    """A container as a pod's security context makes it: a read-only root, nothing to write to but what is given.

    Args:
        podman: runs it.
        name: of the container.
        image: its image.
        user: numeric user and group.
        environment: variables.
        mounts: folders of this machine by their place inside; `:ro` at the end of a place makes it read-only.
    """

    def __init__(
        self,
        podman: Podman,
        name: str,
        image: str,
        *,
        user: int,
        environment: Mapping[str, str],
        mounts: Mapping[str, Path],
    ) -> None:
        self.podman = podman
        self.name = name
        self.options = [
            *("--network=host", "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL"),
            *("--security-opt=no-new-privileges", f"--user={user}:{user}"),
            *(f"--env={key}={value}" for key, value in environment.items()),
            *(f"--volume={source}:{place}" for place, source in mounts.items()),
        ]
        self.image = image

    def start(self, *arguments: str) -> None:
        """Start it."""
        self.podman("run", "--detach", f"--name={self.name}", *self.options, self.image, *arguments)

    def run(self, *arguments: str, seconds: float = 120) -> str:
        """Run it to its end; returns what it said."""
        return self.podman("run", "--rm", *self.options, self.image, *arguments, seconds=seconds)

    def execute(self, *command: str) -> str:
        """Run a command inside."""
        return self.podman("exec", self.name, *command)

    def logs(self) -> str:
        """What it has said."""
        ended = attempt("podman", "logs", self.name, environment=self.podman.environment)
        return ended.stdout + ended.stderr

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit status."""
        self.podman("stop", f"--time={STOP_SECONDS}", self.name)
        return int(self.podman("inspect", self.name, "--format={{.State.ExitCode}}"))

    def remove(self) -> None:
        """Remove it, running or not."""
        attempt("podman", "rm", "--force", "--time=0", self.name, environment=self.podman.environment)


@contextmanager
def started(container: Container, *arguments: str) -> Iterator[Container]:
    """A container that is gone after the block."""
    container.remove()
    container.start(*arguments)
    try:
        yield container
    finally:
        container.remove()


def mirror() -> list[str]:
    """Where this machine gets Debian's packages; nothing where debootstrap's own choice has to do."""
    lines = SOURCES.read_text().splitlines() if SOURCES.exists() else []
    return [line.split()[1] for line in lines if line.startswith("URIs:")][:1]
