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
