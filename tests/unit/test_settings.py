import tempfile
from pathlib import Path

import pytest

from penstock.core.errors import ConfigurationError
from penstock.settings import load_settings, temporary_folder


def test_with_webhooks_polling_is_slow_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    poller = load_settings().poller
    assert (poller.interval_seconds, poller.interval_max_seconds) == (5, 60)
    assert (poller.hinted().interval_seconds, poller.hinted().interval_max_seconds) == (60, 600)
    monkeypatch.setenv("PENSTOCK_POLLER_INTERVAL_SECONDS", "7")
    poller = load_settings().poller.hinted()
    assert (poller.interval_seconds, poller.interval_max_seconds) == (7, 600)


def test_commands_that_write_no_file_need_no_folder_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert temporary_folder() == Path("/tmp")


def test_a_receiver_of_webhooks_needs_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_WEBHOOK_PORT", "8081")
    with pytest.raises(ConfigurationError, match="PENSTOCK_WEBHOOK_SECRET"):
        load_settings()
