import asyncio
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.accounts import missing_key
from penstock.core.errors import ConfigurationError
from penstock.files import FileUnreadable
from penstock.kafka.connection import FileTokenProvider, tls_context
from penstock.settings import ProviderSettings, Settings, SpoolSettings, load_settings, temporary_folder
from penstock.spool import Spool
from penstock.variables import setting_paths, variable

SECRET = {"PENSTOCK_WEBHOOK_SECRET": "whsec_c2VjcmV0"}


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


def told(environment: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(environment)
    return raised.value.problems


def test_a_variable_that_is_no_setting_is_refused_with_the_one_that_was_meant() -> None:
    assert told({"PENSTOCK_KAKFA_BOOTSTRAP_SERVERS": "kafka:9092", "PENSTOCK_XYZZY": "1"}) == (
        "PENSTOCK_KAKFA_BOOTSTRAP_SERVERS is no setting; did you mean PENSTOCK_KAFKA_BOOTSTRAP_SERVERS?",
        "PENSTOCK_XYZZY is no setting; remove it",
    )
    assert load_settings({"PENSTOCK_CACHE": "/tmp", "PENSTOCK_FAILPOINTS": "", "PATH": "/bin"}) == load_settings({})


def test_every_mistake_of_the_environment_is_told_at_once_and_no_value() -> None:
    wrong = {"PENSTOCK_LEASE_SECONDS": "sk-soon", "PENSTOCK_KAFKA_START_AT": "sk-middle", "PENSTOCK_SPOL_FOLDER": "sk"}
    problems = told(wrong)
    assert [each.split()[0].rstrip(":") for each in problems] == [
        "PENSTOCK_SPOL_FOLDER",
        "PENSTOCK_KAFKA_START_AT",
        "PENSTOCK_LEASE_SECONDS",
    ]
    assert "sk-" not in str(problems)


def test_what_kubernetes_says_of_services_called_penstock_is_no_mistake_and_no_setting() -> None:
    addresses = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8080",
        "SERVICE_PORT_HTTP": "8080",
        "PORT": "tcp://10.0.0.1:8080",
        "PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "PORT_8080_TCP_ADDR": "10.0.0.1",
        "PORT_8080_TCP_PORT": "8080",
        "PORT_8080_TCP_PROTO": "tcp",
    }
    services = ("", "HTTP_", "POSTGRES_", "WEBHOOKS_", "SIMULATOR_")
    environment = {f"PENSTOCK_{service}{name}": value for service in services for name, value in addresses.items()}
    assert load_settings(environment) == load_settings({})
    assert told({"PENSTOCK_HTPP_PORT": "8080"}) == (
        "PENSTOCK_HTPP_PORT is no setting; did you mean PENSTOCK_HTTP_PORT?",
    )


def test_a_part_of_a_section_may_come_from_the_environment_and_the_rest_from_the_caller() -> None:
    environment = {"PENSTOCK_KAFKA_REQUEST_TOPICS": "a, b", "penstock_kafka_group": "mine", "PENSTOCK_HTTP_PORT": "1"}
    settings = load_settings(environment, kafka={"group": "theirs"}, deployment="other")
    assert (settings.kafka.request_topics, settings.kafka.group) == (("a", "b"), "theirs")
    assert (settings.deployment, settings.http.port) == ("other", 1)


READERS: dict[str, Callable[[Settings], object]] = {
    "PENSTOCK_POSTGRES_DSN_FILE": lambda settings: settings.postgres.read_dsn(),
    "PENSTOCK_POSTGRES_PASSWORD_FILE": lambda settings: settings.postgres.read_password(),
    "PENSTOCK_KAFKA_SASL_PASSWORD_FILE": lambda settings: settings.kafka.read_password(),
    "PENSTOCK_KAFKA_SASL_TOKEN_FILE": lambda settings: asyncio.run(token_of(settings)),
    "PENSTOCK_KAFKA_CA_FILE": lambda settings: tls_context(settings.kafka),
    "PENSTOCK_KAFKA_CERTIFICATE_FILE": lambda settings: tls_context(settings.kafka),
    "PENSTOCK_KAFKA_KEY_FILE": lambda settings: tls_context(settings.kafka),
    "PENSTOCK_WEBHOOK_SECRET_FILE": lambda settings: settings.webhook.read_secret(),
    "PENSTOCK_LANES_FILE": lambda settings: settings.read_lanes(),
}
OTHER_FILES = {"PENSTOCK_PROVIDER_API_KEY_FILE", "PENSTOCK_SPOOL_FOLDER"}
"""Files whose setting is named elsewhere: with the account, and by the spool."""


async def token_of(settings: Settings) -> str:
    assert settings.kafka.sasl_token_file is not None
    return await FileTokenProvider(settings.kafka.sasl_token_file).token()


def test_every_setting_that_names_a_file_is_named_when_the_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    files = {
        name
        for path in setting_paths(Settings)
        if (name := variable(path)).endswith(("_FILE", "_FOLDER")) and name not in OTHER_FILES
    }
    assert files == READERS.keys()
    for name, read in READERS.items():
        for file, why in (("missing", "no such file or directory"), ("folder", "is a directory")):
            settings = load_settings({name: str(tmp_path / file), "PENSTOCK_WEBHOOK_PORT": "0"} | SECRET)
            with pytest.raises((ConfigurationError, FileUnreadable)) as refused:
                read(settings)
            assert str(refused.value) == f"{name}: {tmp_path / file}: {why}"
    for name in READERS.keys() - {"PENSTOCK_KAFKA_KEY_FILE"}:
        settings = load_settings({name: str(tmp_path / "binary"), "PENSTOCK_WEBHOOK_PORT": "0"} | SECRET)
        with pytest.raises((ConfigurationError, FileUnreadable)) as refused:
            READERS[name](settings)
        assert str(refused.value).startswith(f"{name}: {tmp_path / 'binary'}: it holds no ")


def test_a_lanes_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "lanes.toml").write_text("[defaults\n")
    with pytest.raises(ConfigurationError, match=r"^PENSTOCK_LANES_FILE: .*/lanes\.toml: .*line 1"):
        load_settings({"PENSTOCK_LANES_FILE": str(tmp_path / "lanes.toml")}).read_lanes()


def test_a_spool_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(SpoolSettings(folder=tmp_path / "file" / "spool"), uuid.uuid4())
    with pytest.raises(FileUnreadable) as refused:
        spool.open()
    assert str(refused.value) == f"PENSTOCK_SPOOL_FOLDER: {tmp_path / 'file' / 'spool'}: not a directory"


@pytest.mark.parametrize("first", [True, False])
def test_an_api_key_that_cannot_be_read_is_named_with_its_setting(tmp_path: Path, *, first: bool) -> None:
    account = ProviderSettings(account="eu", api_key_file=tmp_path / "key")
    setting = "PENSTOCK_PROVIDER_API_KEY_FILE" if first else "api_key_file"
    assert missing_key(account, first=first) == (
        f"account 'eu' has no API key: {setting}: {tmp_path / 'key'}: no such file or directory"
    )
