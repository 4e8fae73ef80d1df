"""Settings that are valid one by one, and wrong together."""

from collections.abc import Iterable
from typing import Any

import pytest

from penstock.cli.finding import Finding, Level
from penstock.cli.fit import broker_misfits, own_misfits, server_misfits
from penstock.core.errors import ConfigurationError
from penstock.core.lane import Lanes, parse_lanes
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
