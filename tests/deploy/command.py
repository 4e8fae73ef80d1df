"""Commands that the tests of the deployment run."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class Failed(RuntimeError):
    """A command ended with another status than 0; the message is what it said."""


def run(
    *command: object,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    given: str | None = None,
    seconds: float = 600,
) -> str:
    """Run a command to its end; returns its standard output.

    Raises:
        Failed: with all it said.
        subprocess.TimeoutExpired: it took longer.
    """
    ended = attempt(*command, environment=environment, folder=folder, given=given, seconds=seconds)
    if ended.returncode:
        said = f"{ended.stdout}{ended.stderr}"[-8000:]
        raise Failed(f"{' '.join(map(str, command))} ended with {ended.returncode}:\n{said}")
    return ended.stdout


def attempt(
    *command: object,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    given: str | None = None,
    seconds: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, however it ends."""
    arguments: Sequence[str] = [str(each) for each in command]
    return subprocess.run(
        arguments,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
