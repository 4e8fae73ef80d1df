import asyncio
from pathlib import Path

import pytest

from penstock.cli.finding import Level
from penstock.cli.preflight import Preflight, file_system
from penstock.settings import Settings, SpoolSettings, WebhookSettings, load_settings
from penstock.variables import setting_names


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in setting_names(Settings):
        monkeypatch.delenv(name, raising=False)


def problems(preflight: Preflight) -> list[str]:
    return [each.text for each in preflight.findings if each.level is Level.PROBLEM]


def test_every_setting_has_a_variable() -> None:
    names = set(setting_names(Settings))
    assert {"PENSTOCK_DEPLOYMENT", "PENSTOCK_KAFKA_GROUP", "PENSTOCK_SPOOL_FOLDER"} <= names
    assert all(name.startswith("PENSTOCK_") for name in names)


def test_a_variable_that_is_no_setting_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PUBLISHR_SLOTS", "4")
    monkeypatch.setenv("PENSTOCK_XYZZY", "1")
    monkeypatch.setenv("PENSTOCK_CACHE", "/tmp")
    preflight = Preflight()
    preflight.check_variables()
    first, second = problems(preflight)
    assert first == "PENSTOCK_PUBLISHR_SLOTS is no setting; did you mean PENSTOCK_PUBLISHER_SLOTS?"
    assert second.startswith("PENSTOCK_XYZZY is no setting; remove it")


def test_all_settings_that_are_wrong_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_KAFKA_START_AT", "middle")
    monkeypatch.setenv("PENSTOCK_LEASE_SECONDS", "soon")
    monkeypatch.setenv("PENSTOCK_DEPLOYMENT", "Not Valid")
    preflight = Preflight()
    settings, wrong = preflight.read_settings()
    assert wrong == {"kafka", "lease", "deployment"}
    assert settings is not None
    assert settings.lease.seconds == 30
    told = " ".join(problems(preflight))
    assert "PENSTOCK_KAFKA_START_AT" in told
    assert "PENSTOCK_LEASE_SECONDS" in told
    assert "PENSTOCK_DEPLOYMENT" in told


def test_a_setting_that_is_wrong_takes_none_with_it_that_is_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lanes.toml").write_text('[[account]]\nname = "eu"\ntopics = ["mine"]\nauth = "none"\n')
    monkeypatch.setenv("PENSTOCK_LANES_FILE", str(tmp_path / "lanes.toml"))
    monkeypatch.setenv("PENSTOCK_KAFKA_REQUEST_TOPICS", "mine")
    monkeypatch.setenv("PENSTOCK_KAFKA_START_AT", "middle")
    preflight = Preflight()
    settings, wrong = preflight.read_settings()
    assert settings is not None
    preflight.read_configuration(settings)
    assert wrong == {"kafka"}
    [problem] = problems(preflight)
    assert problem.startswith("PENSTOCK_KAFKA_START_AT: ")


def test_topics_that_are_the_same_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_KAFKA_RESULT_TOPIC", "penstock.requests")
    preflight = Preflight()
    _, wrong = preflight.read_settings()
    assert wrong == {"kafka"}
    assert "must all differ" in problems(preflight)[0]


def test_every_mistake_of_a_lanes_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lanes = tmp_path / "lanes.toml"
    lanes.write_text(
        "[defaults]\nrequest_max = 3\n"
        '[[lane]]\nmodle = "m"\n'
        '[[account]]\nname = "eu"\ntopics = ["penstock.request"]\napi_key_fil = "k"\n'
    )
    monkeypatch.setenv("PENSTOCK_LANES_FILE", str(lanes))
    preflight = Preflight()
    preflight.read_configuration(load_settings())
    told = problems(preflight)
    assert len(told) == 5
    assert "defaults.request_max is unknown" in told[0]
    assert "lane[0].modle is unknown" in told[1]
    assert told[2].endswith("did you mean api_key_file?")
    assert "account 'eu' needs api_key_file" in told[3]
    assert told[4].endswith("(penstock.requests); did you mean penstock.requests?")


def test_a_spool_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    preflight = Preflight()
    preflight.check_spool(SpoolSettings(folder=tmp_path / "file" / "spool"))
    assert len(problems(preflight)) == 1
    assert "PENSTOCK_SPOOL_FOLDER" in preflight.findings[0].mend


def test_a_spool_that_can_be_written_is_left_empty(tmp_path: Path) -> None:
    preflight = Preflight()
    preflight.check_spool(SpoolSettings(folder=tmp_path / "spool", upload_bytes_max=1024, download_bytes_max=1024))
    assert preflight.passed
    assert not list((tmp_path / "spool").iterdir())


def test_a_receiver_of_webhooks_needs_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_WEBHOOK_PORT", "8081")
    preflight = Preflight()
    _, wrong = preflight.read_settings()
    assert wrong == {"webhook"}
    assert "PENSTOCK_WEBHOOK_SECRET" in problems(preflight)[0]
    for secret, passed in ((tmp_path / "missing", False), (tmp_path / "secret", True)):
        (tmp_path / "secret").write_text("whsec_c2VjcmV0\n")
        preflight = Preflight()
        preflight.check_webhook(WebhookSettings(secret_file=secret), 8081)
        assert preflight.passed == passed


def test_a_spool_in_memory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n")
    monkeypatch.setattr("penstock.cli.preflight.MOUNTS", mounts)
    assert file_system(tmp_path / "spool") == "tmpfs"
    assert file_system(Path("/")) == "ext4"
    monkeypatch.setattr("penstock.cli.preflight.MOUNTS", tmp_path / "nowhere")
    assert file_system(tmp_path) == ""


def test_servers_that_cannot_be_reached_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("PENSTOCK_POSTGRES_DSN", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("PENSTOCK_PROVIDER_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("PENSTOCK_PROVIDER_API_KEY", "sk-secret-key")
    monkeypatch.setenv("PENSTOCK_SPOOL_FOLDER", str(tmp_path))
    preflight = Preflight()
    asyncio.run(preflight.run())
    assert {each.part for each in preflight.findings if each.level is Level.PROBLEM} == {
        "kafka",
        "postgres",
        "provider",
    }
    assert "sk-secret-key" not in str(preflight.findings)
