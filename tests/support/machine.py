"""Where and when a page's figures were seen."""

import os
import platform
from datetime import UTC, datetime


def machine() -> str:
    """This machine in a few words."""
    return f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def today() -> str:
    """The date."""
    return f"{datetime.now(UTC):%Y-%m-%d}"
