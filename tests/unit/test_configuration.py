"""Settings, lanes and accounts that are valid one by one, and cannot work together."""

import tomllib
from pathlib import Path

import pytest

from penstock.app import Service
from penstock.configuration import read_configuration
from penstock.core.errors import ConfigurationError
from penstock.settings import Settings, load_settings

ALL = frozenset({"intake", "submit"})
KEY = {"PENSTOCK_PROVIDER_API_KEY": "sk-test"}


def with_lanes(folder: Path, text: str, environment: dict[str, str] = KEY) -> Settings:
    tomllib.loads(text)
    (folder / "lanes.toml").write_text(text)
    return load_settings({**environment, "PENSTOCK_LANES_FILE": str(folder / "lanes.toml")})


def told(settings: Settings, stages: frozenset[str] = ALL) -> list[str]:
    try:
        read_configuration(settings, stages)
    except ConfigurationError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    ("lanes", "places"),
    [
        ("", []),
        ("[defaults]\nage_max_seconds = 280\ndeadline_seconds = 300", ["defaults"]),
        ("[defaults]\nage_max_seconds = 279\ndeadline_seconds = 300", []),
        ('[[lane]]\nmodel = "m"\nage_max_seconds = 200_000\n[[lane]]\nmodel = "n"', ["lane[0]"]),
        (
            '[[lane]]\nmodel = "m"\nage_max_seconds = 900\n[[lane]]\naccount = "default"\ndeadline_seconds = 600',
            ["lane[0] and lane[1]"],
        ),
        ('models = ["m"]\n[defaults]\ndeadline_seconds = 9\n[[lane]]\nmodel = "m"\ndeadline_seconds = 999', []),
        ('[[lane]]\nmodel = "m"\ndeadline_seconds = 9\n[[lane]]\nmodel = "m"\ndeadline_seconds = 999', []),
    ],
)
def test_a_deadline_before_the_window_can_be_sealed_is_refused(lanes: str, places: list[str], tmp_path: Path) -> None:
    problems = told(with_lanes(tmp_path, lanes))
    assert [each.split(": ")[1] for each in problems] == places
    assert all("PENSTOCK_INTAKE_LINGER_SECONDS 20" in each for each in problems)


def test_a_topic_that_nobody_consumes_is_named_with_the_nearest(tmp_path: Path) -> None:
    lanes = """
        backlog_bytes_max = {"request.us" = 1000, "requests.us" = 1000}
        [[account]]
        name = "europe"
        topics = ["requests.us", "reqests.eu"]
        auth = "none"
    """
    settings = with_lanes(tmp_path, lanes, {**KEY, "PENSTOCK_KAFKA_REQUEST_TOPICS": "requests.us,requests.eu"})
    consumed = "which is not in PENSTOCK_KAFKA_REQUEST_TOPICS (requests.us, requests.eu)"
    assert told(settings) == [
        f"lanes file: account 'europe': topics names reqests.eu, {consumed}; did you mean requests.eu?",
        f"lanes file: backlog_bytes_max names request.us, {consumed}; did you mean requests.us?",
    ]


def test_results_go_to_no_topic_of_another_kind(tmp_path: Path) -> None:
    lanes = 'result_topics = ["penstock.ledger", "mine"]\n[[lane]]\nmodel = "m"\nresult_topic = "penstock.requests"'
    assert [each.split()[2] for each in told(with_lanes(tmp_path, lanes))] == ["penstock.ledger", "penstock.requests"]


def test_who_calls_the_provider_needs_a_key_of_each_account_unless_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    account = '[[account]]\nname = "other"\nmodels = ["m"]\n'
    lanes = f'{account}api_key_file = "{tmp_path / "empty"}"'
    first, other = told(with_lanes(tmp_path, lanes, {}))
    assert first == (
        "account 'default' has no API key: set PENSTOCK_PROVIDER_API_KEY_FILE or PENSTOCK_PROVIDER_API_KEY,"
        " or PENSTOCK_PROVIDER_AUTH=none if the provider takes no key"
    )
    assert other == f"account 'other' has no API key: {tmp_path / 'empty'} (api_key_file) is empty"
    assert told(with_lanes(tmp_path, lanes, {}), frozenset({"intake", "seal"})) == []
    unkeyed = with_lanes(tmp_path, f'{account}auth = "none"', {"PENSTOCK_PROVIDER_AUTH": "none"})
    assert told(unkeyed) == []
    missing = load_settings({"PENSTOCK_PROVIDER_API_KEY_FILE": str(tmp_path / "missing")})
    [unreadable] = told(missing)
    file = f"PENSTOCK_PROVIDER_API_KEY_FILE: {tmp_path / 'missing'}"
    assert unreadable == f"account 'default' has no API key: {file}: no such file or directory"


async def test_a_replica_without_a_key_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="PENSTOCK_PROVIDER_API_KEY_FILE"):
        await Service(load_settings({})).run()


def test_mistakes_of_the_file_its_accounts_and_their_keys_are_told_together(tmp_path: Path) -> None:
    lanes = """
        [defaults]
        deadline_seconds = 10
        [[lane]]
        modle = "m"
        [[lane]]
        account = "othr"
        [[account]]
        name = "other"
        models = ["m"]
        timeout_seconds = "soon"
        creates_per_hour = 0
        api_key_file = "k"
    """
    assert len(told(with_lanes(tmp_path, lanes, {}))) == 6
