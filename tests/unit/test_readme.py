"""What README tells a user to run, as far as it needs no server."""

import ast
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DEFAULT = re.compile(r'os\.environ\.get\("(PENSTOCK_\w+)", "([^"]*)"\)')


def example() -> str:
    """The producer and consumer."""
    (text,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    ast.parse(text)
    return str(text)


def test_the_example_finds_what_compose_gives_this_machine_and_can_read_it() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    environment, listeners = services["penstock"]["environment"], services["kafka"]["environment"]
    defaults = dict(DEFAULT.findall(example()))
    assert f"MACHINE://{defaults.pop('PENSTOCK_KAFKA_BOOTSTRAP_SERVERS')}" in listeners["KAFKA_ADVERTISED_LISTENERS"]
    assert len(defaults) == 2
    assert defaults.items() <= environment.items()
    assert environment["PENSTOCK_KAFKA_RESULT_COMPRESSION"] == "gzip"
    assert "compression" not in example()
