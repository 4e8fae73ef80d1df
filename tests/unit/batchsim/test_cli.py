import json
import re
import socket
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from batchsim.cli import app
from batchsim.rulebook import parse_rules
from penstock.settings import HttpSettings
from tests.support.manual import blocks, outcomes


def flattened(output: str) -> str:
    """What is printed, without colours, frames and the line breaks of a narrow terminal."""
    return re.sub(r"\x1b\[[0-9;]*m|[\s│]", "", output)


@pytest.mark.parametrize("value", ["gpt-4o", "gpt-4o=", "=5", "gpt-4o=many"])
def test_a_token_limit_needs_a_model_and_a_number(value: str) -> None:
    result = CliRunner().invoke(app, ["--enqueued-tokens", value])
    assert result.exit_code == 2
    assert "MODEL=N" in flattened(result.output)


@pytest.mark.parametrize("text", ["[{}]", "nothing", '[{"http": {"status": "x"}}]'])
def test_a_bad_scenario_is_refused_before_anything_is_opened(tmp_path: Path, text: str) -> None:
    scenario = tmp_path / "storm.json"
    scenario.write_text(text)
    result = CliRunner().invoke(app, ["--scenario", str(scenario), "--state", str(tmp_path / "state")])
    assert result.exit_code == 2
    assert "storm.json" in flattened(result.output)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("url", "secret", "wrong"),
    [
        ("ftp://a/", "whsec_c2VjcmV0", "--webhook-url"),
        ("http://a:x/", "whsec_c2VjcmV0", "--webhook-url"),
        ("http://a/", "c2VjcmV0", "--webhook-secret"),
        ("http://a/", "whsec_?", "--webhook-secret"),
        ("http://a/", "", "--webhook-secret"),
    ],
)
def test_webhooks_need_a_url_and_a_secret(url: str, secret: str, wrong: str) -> None:
    result = CliRunner().invoke(app, ["--webhook-url", url, "--webhook-secret", secret])
    assert result.exit_code == 2
    assert wrong in flattened(result.output)


def test_the_simulator_and_the_service_stand_beside_each_other_with_nothing_set() -> None:
    [port] = [each for each in get_command(app).params if each.name == "port"]
    assert port.default != HttpSettings().port


def test_a_port_that_is_taken_is_named_with_its_option(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["--port", str(port), "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output == (
        f"batchsim: cannot listen on 127.0.0.1:{port}: address already in use. Stop the process that uses the port, or"
        " choose another one with --port.\n"
    )


def test_an_address_of_another_machine_is_named_with_its_option(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--host", "192.0.2.1", "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output == (
        "batchsim: cannot listen on 192.0.2.1:8090: cannot assign requested address. Choose another address with"
        " --host.\n"
    )


def test_the_help_shows_examples() -> None:
    assert "--scenariostorm.toml" in flattened(CliRunner().invoke(app, ["--help"]).output)


def test_the_rules_of_the_manual_are_valid() -> None:
    examples = [block for block in blocks("json") if block.startswith("[")]
    assert [len(parse_rules(example.encode())) for example in examples] == [12]
    assert [len(parse_rules(example.encode(), toml=True)) for example in blocks("toml")] == [4]
    assert len(parse_rules(json.dumps(list(outcomes().values())).encode())) > 40
