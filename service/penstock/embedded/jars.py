"""The jars of the Kafka broker: pinned in kafka.lock, fetched once, checked against their SHA-256 at every use.

`python -m penstock.embedded.jars` fetches them ahead of the first use; with `--lock` it resolves COORDINATES anew and
rewrites the lock.
"""

import hashlib
import os
import ssl
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from jgo.maven import MavenContext

from penstock.embedded.cache import cache_folder

COORDINATES = ("org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36")
LOCK = Path(__file__).with_name("kafka.lock")
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_TRIES = 3
DOWNLOAD_TIMEOUT_SECONDS = 60


class Jar(NamedTuple):
    """One line of the lock: `group:artifact:version` and the SHA-256 of the file, in hex."""

    coordinate: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in a Maven repository."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def is_in(self, folder: Path) -> bool:
        """Whether the folder holds this jar, byte for byte."""
        path = folder / self.file_name
        return path.is_file() and sha256_of(path) == self.sha256


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locked_jars() -> list[Jar]:
    """What kafka.lock demands."""
    return [Jar(*line.split()) for line in LOCK.read_text().splitlines()]


def class_path(folder: Path | None = None) -> str:
    """The broker's class path, with every jar in the folder, or in the cache, and intact; fetches those that are not.

    Raises:
        ValueError: a fetched jar is not the one that was locked.
        OSError, RuntimeError: the network or the folder fails.
    """
    folder = folder or cache_folder() / "kafka"
    jars = locked_jars()
    if missing := [jar for jar in jars if not jar.is_in(folder)]:
        sys.stderr.write(f"Fetching {len(missing)} jars of Kafka into {folder} (about 45 MB, once)\n")
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            list(pool.map(lambda jar: fetch(jar, folder), missing))
    return os.pathsep.join(str(folder / jar.file_name) for jar in jars)


def fetch(jar: Jar, folder: Path) -> None:
    """Bring one jar into the folder in one atomic step: several processes may be at it at once.

    Raises:
        ValueError: what came is not the jar that was locked.
        OSError, RuntimeError: the last try failed.
    """
    for tries_left in reversed(range(DOWNLOAD_TRIES)):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            try:
                path = download(maven(Path(scratch)), jar.coordinate)
            except (OSError, RuntimeError):
                if not tries_left:
                    raise
                continue
            if (found := sha256_of(path)) != jar.sha256:
                raise ValueError(f"{jar.coordinate} has SHA-256 {found}, but {LOCK.name} demands {jar.sha256}")
            path.replace(folder / jar.file_name)
            return


def download(context: MavenContext, coordinate: str) -> Path:
    """Download one jar into the context's own folder."""
    return Path(context.create_dependency(coordinate).artifact.resolve())


def maven(folder: Path) -> MavenContext:
    """A Maven client that keeps what it fetches in the folder."""
    paths = ssl.get_default_verify_paths()
    if system_certificates := paths.cafile or paths.capath:  # its HTTP client would trust its own bundle only
        os.environ.setdefault("REQUESTS_CA_BUNDLE", system_certificates)
    return MavenContext(repo_cache=folder, timeout=DOWNLOAD_TIMEOUT_SECONDS)


def resolve(coordinates: Iterable[str]) -> list[Jar]:
    """Every jar that running the coordinates takes, transitively, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        context = maven(Path(scratch))
        wanted, transitive = context.resolver.resolve([context.create_dependency(each) for each in coordinates])
        names = sorted(f"{each.groupId}:{each.artifactId}:{each.version}" for each in [*wanted, *transitive])
        return [Jar(name, sha256_of(download(context, name))) for name in names]


if __name__ == "__main__":
    if sys.argv[1:] == ["--lock"]:
        LOCK.write_text("".join(f"{jar.coordinate} {jar.sha256}\n" for jar in resolve(COORDINATES)))
    class_path()
