"""Where downloads that outlive a run are kept."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def candidate_folders() -> Iterator[Path]:
    """Folders that may serve as the cache, the one a user would expect first."""
    if cache_home := os.environ.get("XDG_CACHE_HOME"):
        yield Path(cache_home, "penstock")
    home = os.environ.get("HOME")
    if home and Path(home).is_dir():  # root could create a home that is only a placeholder, such as /nonexistent
        yield Path(home, ".cache", "penstock")
    if sys.prefix != sys.base_prefix:
        yield Path(sys.prefix, "cache", "penstock")
    yield Path(tempfile.gettempdir(), f"penstock-cache-{os.getuid()}")


def cache_folder() -> Path:
    """The cache: `PENSTOCK_CACHE`, else the first writable one of the user's cache, the venv and the temp folder.

    Raises:
        OSError: not even the temp folder can be written to.
    """
    if chosen := os.environ.get("PENSTOCK_CACHE"):
        return Path(chosen)
    for folder in candidate_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise OSError("no writable folder for the cache: set PENSTOCK_CACHE to one")
