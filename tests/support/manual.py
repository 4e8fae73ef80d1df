"""The examples in the simulator's manual."""

import json
import re
from pathlib import Path
from typing import Any

import batchsim

MANUAL = Path(batchsim.__file__).with_name("README.md").read_text()
ROW = re.compile(r"^\| (?P<outcome>.+) \| `(?P<rule>\{.*\})` \|$", re.MULTILINE)


def outcomes() -> dict[str, dict[str, Any]]:
    """The rule of each outcome in the manual's tables."""
    return {row["outcome"]: json.loads(row["rule"]) for row in ROW.finditer(MANUAL)}


def blocks(language: str) -> list[str]:
    """The fenced examples in a language."""
    return re.findall(rf"```{language}\n(.*?)```", MANUAL, re.DOTALL)
