"""What holds for every unit test."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """A command that a test runs sets logging up for the whole process, to a stream that is closed afterwards."""
    yield
    structlog.reset_defaults()
