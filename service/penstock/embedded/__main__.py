"""`python -m penstock.embedded`: a Kafka and a Postgres to run the service against, until interrupted."""

import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres


async def serve(folder: Path) -> None:
    """Run both with their data in the folder, and say where they are the way the service's settings take it."""
    kafka, postgres = EmbeddedKafka(folder / "kafka"), EmbeddedPostgres(folder / "postgres")
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    try:
        await postgres.start()
        await kafka.start()
        sys.stdout.write(f"PENSTOCK_KAFKA_BOOTSTRAP_SERVERS={kafka.bootstrap_servers}\n")
        sys.stdout.write(f"PENSTOCK_POSTGRES_DSN={postgres.dsn}\n")
        sys.stdout.flush()
        await interrupted.wait()
    finally:
        await kafka.stop()
        await postgres.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="penstock-servers-") as temporary:
        asyncio.run(serve(Path(temporary)))
