"""Settings that are valid one by one, and wrong together."""

from collections.abc import Iterable
from typing import Any

import pytest

from penstock.cli.finding import Finding, Level
from penstock.cli.fit import broker_misfits, own_misfits, server_misfits
from penstock.core.errors import ConfigurationError
from penstock.core.lane import Lanes
from penstock.core.lanes_file import parse_lanes
from penstock.settings import ProviderSettings, load_settings


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Level and part of each; every one has its mend."""
    found = list(findings)
    assert all(each.mend for each in found)
    return [(each.level, each.part) for each in found]


def test_the_defaults_fit_together() -> None:
    settings = load_settings()
    assert told(own_misfits(settings, Lanes())) == []
    assert told(broker_misfits(settings, {"transaction.max.timeout.ms": "900000"})) == []
    assert told(broker_misfits(settings, {})) == [], "we may not read them"
    assert told(server_misfits(settings, 97, 24)) == []


@pytest.mark.parametrize(
    ("values", "lanes", "expected"),
    [
        ({"provider": {"timeout_seconds": 180}}, {}, (Level.PROBLEM, "lease")),
        ({"lease": {"seconds": 20}}, {}, (Level.PROBLEM, "lease")),
        ({"spool": {"upload_bytes_max": 199_999_999}}, {}, (Level.PROBLEM, "spool")),
        ({"spool": {"download_bytes_max": 3_000_000_000}}, {}, (Level.PROBLEM, "spool")),
        ({}, {"lane": [{"model": "m", "age_max_seconds": 1.0}]}, (Level.PROBLEM, "lanes")),
    ],
)
def test_what_does_not_fit_is_told(values: dict[str, Any], lanes: dict[str, Any], expected: tuple[Level, str]) -> None:
    assert told(own_misfits(load_settings(**values), parse_lanes(lanes))) == [expected]


def test_a_small_spool_is_enough_where_no_embeddings_come() -> None:
    settings = load_settings(spool={"download_bytes_max": 3_000_000_000})
    chats = {"models": ["gpt-4o"], "lane": [{"model": "gpt-4o"}]}
    assert told(own_misfits(settings, parse_lanes(chats))) == []
    small = {"defaults": {"inputs_max": 40_000}}
    assert told(own_misfits(settings, parse_lanes(small))) == []


def test_a_transaction_longer_than_the_brokers_allow_is_told() -> None:
    settings = load_settings(publisher={"transaction_timeout_seconds": 60})
    assert told(broker_misfits(settings, {"transaction.max.timeout.ms": "59000"})) == [(Level.PROBLEM, "kafka")]


def test_more_connections_than_the_server_gives_are_told() -> None:
    assert told(server_misfits(load_settings(), 97, 25)) == [(Level.PROBLEM, "postgres")]


def test_a_grace_shorter_than_the_drain_is_refused_at_start() -> None:
    load_settings(drain_seconds=25, grace_seconds=40)
    with pytest.raises(ConfigurationError, match="PENSTOCK_GRACE_SECONDS"):
        load_settings(drain_seconds=25, grace_seconds=25)


def test_each_account_is_held_against_the_lanes_that_are_its_own() -> None:
    settings = load_settings()
    file = {"lane": [{"account": "other", "age_max_seconds": 1.0}, {"model": "m", "age_max_seconds": 3600.0}]}
    first, other = (ProviderSettings(account=name) for name in ("default", "other"))
    assert told(own_misfits(settings, parse_lanes(file), [first])) == []
    assert told(own_misfits(settings, parse_lanes(file), [first, other])) == [(Level.PROBLEM, "lanes")]
    slow = ProviderSettings(account="slow", timeout_seconds=600)
    assert told(own_misfits(settings, parse_lanes({}), [first, slow])) == [(Level.PROBLEM, "lease")]


@pytest.mark.parametrize(
    ("base_url", "level"),
    [
        ("https://api.openai.com/v1", Level.PROBLEM),
        ("https://eu.api.openai.com/v1", Level.PROBLEM),
        ("https://mine.openai.azure.com/openai/v1/", Level.PROBLEM),
        ("https://api.groq.com/openai/v1", Level.WARNING),
        ("https://notapi.openai.com.example.com/v1", Level.WARNING),
    ],
)
def test_a_completion_window_that_the_provider_does_not_take_is_told(base_url: str, level: Level) -> None:
    settings = load_settings(provider={"base_url": base_url})
    lanes = {"lane": [{"model": "slow", "completion_window": "7d"}, {"model": "usual", "completion_window": "24h"}]}
    assert told(own_misfits(settings, parse_lanes(lanes))) == [(level, "lanes")]


def test_a_completion_window_is_held_against_the_accounts_that_may_be_asked_for_it() -> None:
    openai = ProviderSettings(account="default")
    other = ProviderSettings(account="other", base_url="https://api.example.com/v1")
    own = {"lane": [{"account": "other", "completion_window": "7d"}]}
    assert told(own_misfits(load_settings(), parse_lanes(own), [openai, other])) == [(Level.WARNING, "lanes")]
    elsewhere = {
        "account": [{"name": "other", "models": ["m"]}],
        "lane": [{"model": "n", "completion_window": "7d"}],
    }
    assert told(own_misfits(load_settings(), parse_lanes(elsewhere), [other])) == []


def test_a_model_that_no_request_may_name_is_told_with_the_nearest() -> None:
    file = {
        "models": ["gpt-4o-mini"],
        "lane": [{"model": "gpt-4o-mini"}, {"model": "gpt-4o-mni"}],
        "account": [{"name": "other", "models": ["gpt-4o-mini", "o9"]}],
    }
    first, second = own_misfits(load_settings(), parse_lanes(file))
    assert (first.level, second.level) == (Level.WARNING, Level.WARNING)
    assert first.text.startswith("lane[1].model names 'gpt-4o-mni'")
    assert first.text.endswith("did you mean gpt-4o-mini?")
    assert second.text.startswith("account 'other': models names 'o9'")
