"""`penstock demo`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.outcome import INTERRUPTED, reported
from penstock.core.errors import ConfigurationError
from penstock.telemetry.log import configure_logging


def demo(
    input_file: Annotated[
        Path | None,
        typer.Option("--input", exists=True, dir_okay=False, help="Your own Batch API file (JSONL) as the requests."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C, and say how to reach it.")
    ] = False,
    faults: Annotated[
        str | None, typer.Option("--faults", metavar="SEED", help="Let the provider have a storm, dealt out by a seed.")
    ] = None,
) -> None:
    """Run the whole system on this machine: a real Kafka, a real Postgres, a simulated provider.

    Over 10,000 requests about Python's standard library go from a request topic through batches to the result topic;
    the exit status is 0 only if every one came back exactly once. Nothing needs to be installed or set, nothing is
    left behind, and no request leaves the machine.

    With `--faults` the simulator makes every kind of fault that the Batch API is known for, and the report says how
    often each was met; all the same every request must come back exactly once.

    What the environment names is used instead of the embedded one: PENSTOCK_KAFKA_BOOTSTRAP_SERVERS (topics of its
    own are deleted at the end), PENSTOCK_POSTGRES_DSN (a schema of its own is dropped), PENSTOCK_PROVIDER_BASE_URL
    (with its key: **a real provider bills you**).

    For example:

    * `penstock demo`
    * `penstock demo --input requests.jsonl`
    * `penstock demo --keep`
    * `penstock demo --faults 1`
    """
    configure_logging("error", console=True)
    with reported():
        try:
            from penstock.demo.demonstration import demonstrate  # noqa: PLC0415 - takes extras that a service has not
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"{error}: pip install 'penstock[embedded,simulator]'") from error
        try:
            passed = demonstrate(input_file, keep=keep, seed=faults)
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if passed else 1)
