import sys
import tempfile
from pathlib import Path

import pytest

from penstock.embedded.cache import cache_folder


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("PENSTOCK_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))


def test_the_cache_that_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "chosen"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "chosen"


def test_the_users_cache_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "penstock"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "penstock"


@pytest.mark.parametrize("home", ["", "/nonexistent"])
def test_without_a_home_the_venv_holds_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert cache_folder() == tmp_path / "venv" / "cache" / "penstock"
    assert not Path("/nonexistent").exists()


def test_the_temp_folder_is_the_last_resort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a-file"))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert cache_folder().parent == tmp_path / "temp"


def test_no_writable_folder_at_all_is_an_error_that_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "temp").touch()
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(OSError, match="PENSTOCK_CACHE"):
        cache_folder()
