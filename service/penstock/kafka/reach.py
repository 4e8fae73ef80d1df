"""Why brokers cannot be used: aiokafka tells that it could not bootstrap, and logs the cause or nothing."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from penstock.files import FileUnreadable
from penstock.kafka.connection import client_options
from penstock.network import CLOSED, Cause, Failure, Unreachable, address, cause_of
from penstock.settings import KafkaSettings

PROBE_SECONDS = 5.0
"""How long one broker may take to answer when it is asked for the cause."""
LOGIN = (
    AuthenticationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
ANSWERED = Cause(Failure.OTHER, "it answers now")
WHERE = "Check PENSTOCK_KAFKA_BOOTSTRAP_SERVERS, and that the brokers run"
FIXES = {
    Failure.NAME: WHERE,
    Failure.REFUSED: WHERE,
    Failure.TIMEOUT: "Check PENSTOCK_KAFKA_BOOTSTRAP_SERVERS, and the firewalls on the way",
    Failure.TLS: "Check PENSTOCK_KAFKA_SECURITY_PROTOCOL and PENSTOCK_KAFKA_CA_FILE",
    Failure.CLOSED: (
        "Check PENSTOCK_KAFKA_SECURITY_PROTOCOL: a listener of another protocol, or one that asks for a client"
        " certificate, closes the connection"
    ),
    Failure.LOGIN: "Check PENSTOCK_KAFKA_SASL_MECHANISM, PENSTOCK_KAFKA_SASL_USERNAME and the password or token",
}
OTHER_FIX = "Check PENSTOCK_KAFKA_BOOTSTRAP_SERVERS and the other settings of Kafka"


class Startable(Protocol):
    """A client of aiokafka."""

    def start(self) -> Awaitable[None]:
        """Connect."""


class BrokersAway(Unreachable, KafkaConnectionError):  # type: ignore[misc]  # aiokafka is untyped
    """No broker can be used; each that was asked is named with its reason."""


async def start_client(client: Startable, settings: KafkaSettings) -> None:
    """Start a client.

    Raises:
        BrokersAway: no broker of the settings can be used.
        KafkaError: a broker refuses.
    """
    try:
        await client.start()
    except KafkaConnectionError as error:
        raise await brokers_away(settings) from error


async def brokers_away(settings: KafkaSettings) -> BrokersAway:
    """Ask every broker of the settings for the cause."""
    servers = [(host, port) for host, port, _ in collect_hosts(settings.bootstrap_servers, randomize=False)]
    causes = await asyncio.gather(*(probe(settings, host, port) for host, port in servers))
    found = {address(*server): cause for server, cause in zip(servers, causes, strict=True)}
    return BrokersAway(f"cannot reach Kafka at {told(found)}", fix_of(found))


async def broker_away(settings: KafkaSettings, host: str, port: int) -> BrokersAway:
    """Ask a broker for the cause whose address another broker gave."""
    found = {address(host, port): await probe(settings, host, port)}
    return BrokersAway(
        f"cannot reach Kafka at {told(found)}. The brokers at {settings.bootstrap_servers} give this address",
        "Check advertised.listeners of the brokers, and the network",
    )


def told(found: Mapping[str, Cause]) -> str:
    """Brokers with their causes."""
    if len(found) == 1:
        [(server, cause)] = found.items()
        return f"{server}: {cause.text}"
    return ", ".join(f"{server} ({cause.text})" for server, cause in found.items())


def fix_of(found: Mapping[str, Cause]) -> str:
    """What to check: by the cause of the broker that came furthest."""
    failures = {each.failure for each in found.values()}
    for failure in (Failure.LOGIN, Failure.CLOSED, Failure.TLS, Failure.TIMEOUT, Failure.REFUSED, Failure.NAME):
        if failure in failures:
            return FIXES[failure]
    return OTHER_FIX


async def probe(settings: KafkaSettings, host: str, port: int) -> Cause:
    """Connect to one broker as clients do, and ask for what they ask first."""
    try:
        options: dict[str, Any] = client_options(settings, "penstock-probe")
        del options["bootstrap_servers"]
        async with asyncio.timeout(PROBE_SECONDS):
            connection = await create_conn(host, port, **options)
            try:
                await connection.send(MetadataRequest([]))
            finally:
                connection.close()
    except LOGIN as error:
        return Cause(Failure.LOGIN, f"login refused: {words(error)}")
    except FileUnreadable as error:
        return Cause(Failure.OTHER, str(error))
    except KafkaConnectionError as error:
        cause = cause_of(error)
        return CLOSED if cause.failure is Failure.OTHER else cause
    except KafkaError as error:
        return Cause(Failure.OTHER, words(error))
    except (OSError, ValueError) as error:  # the latter: a server's proof of the password that is wrong
        return cause_of(error)
    return ANSWERED


def words(error: KafkaError) -> str:
    """The broker's words, else those of the protocol."""
    said = " ".join(str(each) for each in error.args if isinstance(each, str)).strip()
    return said or getattr(error, "description", "") or type(error).__name__
