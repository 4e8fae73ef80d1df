import hashlib
import re
from pathlib import Path

import pytest

from penstock.embedded import jars
from penstock.embedded.jars import LOCK, Jar, class_path, locked_jars

JAR = Jar("org.example:thing:1.0", hashlib.sha256(b"the jar").hexdigest())


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bytes | OSError]:
    """What each try to download the only jar of a lock will bring, in turn."""
    script: list[bytes | OSError] = []

    def download(_context: object, _coordinate: str) -> Path:
        outcome = script.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        path = tmp_path / "downloaded"
        path.write_bytes(outcome)
        return path

    monkeypatch.setattr(jars, "download", download)
    monkeypatch.setattr(jars, "locked_jars", lambda: [JAR])
    return script


def test_the_lock_pins_every_jar_by_hash_and_names_no_host() -> None:
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in locked_jars())
    assert {"kafka_2.13-4.3.1.jar", "slf4j-simple-1.7.36.jar"} <= {jar.file_name for jar in locked_jars()}
    assert "//" not in LOCK.read_text()


def test_an_intact_jar_is_not_fetched_again(downloads: list[bytes | OSError], tmp_path: Path) -> None:
    downloads.append(b"the jar")
    assert class_path(tmp_path / "cache") == class_path(tmp_path / "cache") == str(tmp_path / "cache" / "thing-1.0.jar")


def test_a_damaged_jar_is_fetched_again(downloads: list[bytes | OSError], tmp_path: Path) -> None:
    downloads.append(b"the jar")
    damaged = tmp_path / JAR.file_name
    damaged.write_bytes(b"half a jar")
    class_path(tmp_path)
    assert damaged.read_bytes() == b"the jar"


def test_a_jar_other_than_the_locked_one_is_refused(downloads: list[bytes | OSError], tmp_path: Path) -> None:
    downloads.append(b"another jar")
    with pytest.raises(ValueError, match=re.escape(JAR.sha256)):
        class_path(tmp_path)
    assert not (tmp_path / JAR.file_name).exists()


def test_a_network_that_fails_twice_is_tried_again(downloads: list[bytes | OSError], tmp_path: Path) -> None:
    downloads += [OSError("reset"), OSError("reset"), b"the jar"]
    assert class_path(tmp_path)


def test_a_network_that_stays_away_is_an_error(downloads: list[bytes | OSError], tmp_path: Path) -> None:
    downloads += [OSError("unreachable")] * 3
    with pytest.raises(OSError, match="unreachable"):
        class_path(tmp_path)
