"""Queries by name, from the `.sql` files beside this module."""

import re
from functools import cache
from importlib.resources import files

NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def queries() -> dict[str, str]:
    """Every query's text by its name; a name stands once among all files."""
    found: dict[str, str] = {}
    for file in sorted(files(__package__).joinpath("sql").iterdir(), key=lambda each: each.name):
        pieces = NAME.split(file.read_text())[1:]
        for name, text in zip(pieces[::2], pieces[1::2], strict=True):
            if name in found:
                raise RuntimeError(f"query {name} stands twice")
            found[name] = text.strip().removesuffix(";")
    return found
