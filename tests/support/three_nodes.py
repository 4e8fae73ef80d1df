"""A cluster of three brokers, each a controller too, in small JVMs."""

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.server import free_port

NODES = (1, 2, 3)
HEAP_MIB = 256


class Node(EmbeddedKafka):
    """One of three.

    Args:
        folder: of its data.
        number: its id.
        ports: of all controllers, by number.
        cluster_id: of all three.
    """

    def __init__(self, folder: Path, number: int, ports: dict[int, int], cluster_id: str) -> None:
        super().__init__(folder, heap_mib=HEAP_MIB)
        self.cluster_id = cluster_id
        self.controller_port = ports[number]
        self.settings = {
            "node.id": str(number),
            "controller.quorum.voters": ",".join(f"{each}@127.0.0.1:{port}" for each, port in ports.items()),
            "default.replication.factor": "3",
            "min.insync.replicas": "1",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "1",
            "replica.lag.time.max.ms": "3000",
            "controlled.shutdown.enable": "true",
        }

    def java_command(self, main_class: str, *arguments: str) -> Sequence[str]:
        """Format with the cluster's id."""
        given = list(arguments)
        if given[:2] == ["format", "-t"]:
            given[2] = self.cluster_id
        return super().java_command(main_class, *given)


class ThreeNodes:
    """The cluster; it looks like its first broker to whoever asks one for an address, but names all three."""

    def __init__(self, folder: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(b"P" + secrets.token_bytes(15)).decode().rstrip("=")
        ports = {number: free_port() for number in NODES}
        self.nodes = {number: Node(folder / str(number), number, ports, cluster_id) for number in NODES}

    @property
    def bootstrap_servers(self) -> str:
        """All three."""
        return ",".join(each.bootstrap_servers for each in self.nodes.values())

    async def start(self) -> None:
        """Start those that are down: a controller alone has no quorum."""
        await asyncio.gather(*(each.start() for each in self.nodes.values()))

    async def stop(self) -> None:
        """Stop them all; the last ones have no quorum to say farewell to."""
        with contextlib.suppress(ProcessLookupError):
            for each in self.nodes.values():
                await each.kill()


@asynccontextmanager
async def three_nodes(folder: Path) -> AsyncIterator[ThreeNodes]:
    """A cluster that runs, with its data in a folder."""
    cluster = ThreeNodes(folder)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()
