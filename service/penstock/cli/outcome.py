"""How a command ends: errors that a user can mend are sentences on standard error and exit status 2."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

import asyncpg
import typer
from aiokafka.errors import KafkaError

from penstock.core.errors import ConfigurationError, PenstockError
from penstock.embedded.server import ServerError
from penstock.settings import Settings, load_settings
from penstock.telemetry.log import configure_logging

INTERRUPTED = 130

Result = TypeVar("Result")


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors into a sentence for each, and an exit status.

    Raises:
        typer.Exit: with status 2.
    """
    try:
        yield
    except* (PenstockError, OSError, asyncpg.PostgresError, KafkaError, asyncpg.InterfaceError, ServerError) as errors:
        for error in leaves(errors):
            for each in error.problems if isinstance(error, ConfigurationError) else [sentence(error)]:
                typer.echo(f"penstock: {each}", err=True)
        raise typer.Exit(2) from None


def command(main: Callable[[Settings], Coroutine[None, None, Result]]) -> Result:
    """Run a command that needs the settings and nothing of the service's logs.

    Ctrl-C, and a reader of our output that has gone (`| head`), end it without a word.
    """
    with reported():
        settings = load_settings()
        configure_logging("error", console=True)
        try:
            return asyncio.run(main(settings))
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more can be flushed there
            raise typer.Exit(1) from None


def leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors inside groups of groups."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def sentence(error: BaseException) -> str:
    """What went wrong, for a person."""
    if isinstance(error, PenstockError | ServerError):
        return str(error)
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        return f"Postgres: {error}"
    if isinstance(error, KafkaError):
        return f"Kafka: {error}"
    return f"{type(error).__name__}: {error}"
