"""`python -m tests.defences NAME… -- run …`: the real command line, with defences switched off."""

import sys

import pytest

from penstock.cli.app import app
from tests.defences.switches import DEFENCES


def main(given: list[str]) -> None:
    """Switch off what is named before `--`, and hand the rest to `penstock`."""
    end = given.index("--")
    for name in given[:end]:
        DEFENCES[name].switch(pytest.MonkeyPatch())
    app(given[end + 1 :])


main(sys.argv[1:])
