"""How a command ends: errors that a user can mend are one sentence on standard error and exit status 2."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import typer
from aiokafka.errors import KafkaError

from penstock.core.errors import PenstockError


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors into a sentence and an exit status.

    Raises:
        typer.Exit: with status 2.
    """
    try:
        yield
    except* (PenstockError, OSError, asyncpg.PostgresError, KafkaError, asyncpg.InterfaceError) as errors:
        for error in leaves(errors):
            typer.echo(f"penstock: {sentence(error)}", err=True)
        raise typer.Exit(2) from None


def leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors inside groups of groups."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def sentence(error: BaseException) -> str:
    """What went wrong, for a person."""
    if isinstance(error, PenstockError):
        return str(error)
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        return f"Postgres: {error}"
    if isinstance(error, KafkaError):
        return f"Kafka: {type(error).__name__} {error}"
    return f"{type(error).__name__}: {error}"
