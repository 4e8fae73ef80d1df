"""A demonstration touches nothing of the user's own, unless it is told to, and then says what first."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from penstock.cli.app import app
from penstock.demo import demonstration
from penstock.demo.corpus import read_lines
from penstock.demo.environment import Environment
from penstock.demo.preview import estimated
from penstock.demo.stack import child_environment, exports, settings_of

PRODUCTION = {
    "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9092",
    "PENSTOCK_KAFKA_SASL_PASSWORD": "sk-kafka",
    "PENSTOCK_POSTGRES_DSN": "postgresql://penstock:sk-postgres@db.example.com:5432/penstock?sslmode=require",
    "PENSTOCK_PROVIDER_BASE_URL": "https://api.openai.com/v1",
    "PENSTOCK_PROVIDER_API_KEY": "sk-provider",
    "OPENAI_API_KEY": "sk-openai",
    "OPENAI_BASE_URL": "https://api.openai.com/v1",
}
ELSE = {"PATH": "/bin", "PENSTOCK_CACHE": "/tmp/cache"}
LINE = {"custom_id": "a", "url": "/v1/chat/completions", "body": {"model": "gpt-4o-mini", "messages": [], "n": 1}}


def test_without_being_told_it_takes_no_server_and_no_key_from_the_environment() -> None:
    environment = Environment({**PRODUCTION, **ELSE})
    assert environment.ignored == sorted(PRODUCTION)
    assert not environment.names("KAFKA_BOOTSTRAP_SERVERS", "POSTGRES_DSN", "PROVIDER_BASE_URL")
    overrides: dict[str, dict[str, object]] = {"": {"deployment": "demo-1"}, "kafka": {"group": "g"}}
    assert settings_of(overrides, environment) == settings_of(overrides, Environment({}))
    child = child_environment(overrides, environment)
    assert child == {**ELSE, "PENSTOCK_DEPLOYMENT": "demo-1", "PENSTOCK_KAFKA_GROUP": "g"}
    assert exports(overrides, environment).keys() == {"PENSTOCK_DEPLOYMENT", "PENSTOCK_KAFKA_GROUP"}


def test_told_to_it_uses_all_that_the_environment_says() -> None:
    environment = Environment({**PRODUCTION, **ELSE}, used=True)
    assert environment.ignored == []
    assert environment.inherited == {**PRODUCTION, **ELSE}
    settings = settings_of({"": {}}, environment)
    assert settings.kafka.bootstrap_servers == "kafka.example.com:9092"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Environment]:
    """The environments of the demonstrations that would have been started."""
    found: list[Environment] = []

    def demonstrate(_: object, environment: Environment, **__: object) -> bool:
        found.append(environment)
        return True

    monkeypatch.setattr(demonstration, "demonstrate", demonstrate)
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    return found


def demo(folder: Path, *options: str) -> Result:
    (folder / "requests.jsonl").write_text(f"{json.dumps(LINE)}\nbroken\n")
    return CliRunner().invoke(app, ["demo", "--input", str(folder / "requests.jsonl"), *options])


def test_what_it_ignores_is_said_in_one_line(started: Sequence[Environment], tmp_path: Path) -> None:
    finished = demo(tmp_path)
    assert (finished.exit_code, [each.used for each in started]) == (0, [False])
    [line] = finished.output.splitlines()
    assert all(name in line for name in PRODUCTION)
    assert "sk-" not in line


def test_on_the_users_servers_nothing_starts_without_a_yes(started: Sequence[Environment], tmp_path: Path) -> None:
    finished = demo(tmp_path, "--use-environment")
    assert (finished.exit_code, started) == (2, [])
    assert "--yes" in finished.output
    for shown in (
        "kafka.example.com:9092",
        "db.example.com:5432/penstock",
        "https://api.openai.com/v1",
        "  1, about $",
    ):
        assert shown in finished.output
    assert "sk-" not in finished.output
    assert demo(tmp_path, "--use-environment", "--yes").exit_code == 0
    assert [each.used for each in started] == [True]


def test_a_provider_without_a_key_is_refused_before_anything_starts(
    started: Sequence[Environment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PENSTOCK_PROVIDER_API_KEY")
    finished = demo(tmp_path, "--use-environment", "--yes")
    assert (finished.exit_code, started) == (2, [])
    assert "PENSTOCK_PROVIDER_API_KEY_FILE" in finished.output


def test_the_cost_is_that_of_the_requests_and_unknown_prices_are_named() -> None:
    lines = [json.dumps(LINE).encode()] * 1000 + [b"broken"]
    body = {"model": "gpt-4o-mini", "messages": [], "max_completion_tokens": 1_000_000}
    bounded = json.dumps({**LINE, "body": body}).encode()
    unknown = json.dumps({**LINE, "body": {"model": "of-nobody", "messages": []}}).encode()
    assert estimated(lines).requests == 1000
    assert 0 < estimated(lines).cost_usd < estimated([bounded]).cost_usd < 1
    assert str(estimated([bounded, unknown])).startswith("2, about $0.30 at batch prices, and what of-nobody")


def test_the_demonstrations_own_requests_have_a_price() -> None:
    lines, broken = read_lines(None)
    found = estimated(lines)
    assert found.requests == len(lines) - (broken or 0)
    assert found.requests > 10_000
    assert found.cost_usd > 0
