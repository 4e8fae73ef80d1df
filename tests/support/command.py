"""The real command line as a subprocess, for tests."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.simulator import SERVICE

SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, read as JSON."""
        return json.loads(self.out)


async def penstock(
    environment: Mapping[str, str], *arguments: object, given: bytes = b"", timeout_seconds: float = SECONDS
) -> Finished:
    """Run `penstock` to its end, with no settings but these; `given` is its standard input."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**own, "PYTHONPATH": str(SERVICE), "COLUMNS": "200", **environment},
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            out, err = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None, "it has ended"
    return Finished(process.returncode, out.decode(), err.decode())
