"""`penstock run` and `penstock migrate`."""

import asyncio
from typing import Annotated

import typer
import uvloop

from penstock.app import STAGES, Service, parse_stages
from penstock.cli.outcome import reported
from penstock.memory import give_back_large_buffers, look_for_cycles_rarely
from penstock.postgres.database import opened
from penstock.postgres.migrate import migrate as apply_migrations
from penstock.settings import load_settings
from penstock.telemetry.log import configure_logging


def run(
    stages: Annotated[str, typer.Option(help=f"Which stages run here, of {', '.join(STAGES)}; all by default.")] = "",
) -> None:
    """Run the service.

    Everything is set by environment (see docs/reference/settings.md). SIGTERM drains.

    For example:

    * `penstock run`
    * `penstock run --stages intake`
    * `penstock run --stages collect,publish`
    """
    with reported():
        settings = load_settings()
        configure_logging(settings.log.level, console=settings.log.format == "console")
        give_back_large_buffers()
        look_for_cycles_rarely()
        uvloop.run(Service(settings, parse_stages(stages)).run())


def migrate() -> None:
    """Bring the database's schema up to this version. Safe to run twice, and twice at once.

    For example:

    * `penstock migrate`
    """

    async def apply() -> list[str]:
        async with opened(settings) as database:
            return await apply_migrations(database)

    with reported():
        settings = load_settings()
        done = asyncio.run(apply())
        typer.echo("\n".join(f"applied {name}" for name in done) or "the schema is up to date")
