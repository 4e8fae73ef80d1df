"""The service on brokers that ask who it is: one broker with a listener for each way, one run over each of them."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.embedded.server import free_port
from penstock.kafka.connection import client_options
from penstock.settings import KafkaSettings
from tests.support.bridge import Bridge, open_bridge
from tests.support.certificates import certificates
from tests.support.command import penstock
from tests.support.conversation import Conversation
from tests.support.crash import until
from tests.support.request import chat
from tests.support.service import Service

PASSWORD = "pass-canary-51c0"
USER = "penstock"
MODULE = "org.apache.kafka.common.security"
LISTENERS = {"LOGIN": "SASL_PLAINTEXT", "TOKEN": "SASL_PLAINTEXT", "SEALED": "SASL_SSL", "MUTUAL": "SSL"}
LISTENERS["ASTRAY"] = "PLAINTEXT"
PLAIN_USERS = "listener.name.login.plain.sasl.jaas.config"
TOKEN_SECONDS = 3.0
"""The brokers end a connection that is older than its token, as clouds' brokers do."""
PORTS = {name: free_port() for name in LISTENERS}


def plain_users(password: str) -> str:
    """Who may come with a password in plain words."""
    return f'{MODULE}.plain.PlainLoginModule required user_{USER}="{password}";'


def settings_of(kafka: EmbeddedKafka, folder: Path) -> dict[str, str]:
    """The listener that tests use, and one for each kind of security."""
    own = {"PLAINTEXT": f"127.0.0.1:{kafka.port}"} | {name: f"127.0.0.1:{port}" for name, port in PORTS.items()}
    advertised = ",".join(f"{name}://{address}" for name, address in own.items())
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **LISTENERS}
    token = f'{MODULE}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
    return {
        "listeners": f"{advertised},CONTROLLER://127.0.0.1:{kafka.controller_port}",
        "advertised.listeners": advertised.replace(f"ASTRAY://127.0.0.1:{PORTS['ASTRAY']}", "ASTRAY://127.0.0.1:1"),
        "listener.security.protocol.map": ",".join(f"{name}:{each}" for name, each in protocols.items()),
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
        PLAIN_USERS: plain_users(PASSWORD),
        "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.token.oauthbearer.sasl.jaas.config": token,
        "listener.name.token.oauthbearer.connections.max.reauth.ms": str(int(TOKEN_SECONDS * 1000)),
        "listener.name.sealed.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sealed.scram-sha-512.sasl.jaas.config": f"{MODULE}.scram.ScramLoginModule required;",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.store"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
    }


class SecureKafka(EmbeddedKafka):
    """A broker that knows a user by SCRAM from its first start on."""

    def java_command(self, main_class: str, *arguments: str) -> Any:
        """Formatting the data adds the user."""
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        return super().java_command(
            main_class, *arguments, *(["--add-scram", scram] if arguments[:1] == ("format",) else [])
        )


@pytest.fixture(scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("security")
    await asyncio.to_thread(certificates, folder, "broker", "client")
    (folder / "broker.store").write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())
    return folder


@pytest.fixture(scope="module")
async def bridge(postgres: EmbeddedPostgres, folder: Path) -> AsyncIterator[Bridge]:
    kafka = SecureKafka(folder / "kafka")
    kafka.settings = settings_of(kafka, folder)
    await kafka.start()
    try:
        async with open_bridge(kafka, postgres, folder, partitions=1) as opened:
            yield opened
    finally:
        await kafka.stop()


def token(seconds: float) -> str:
    """An OAUTHBEARER token without a signature, which the broker takes while nobody tells it whose to ask for."""
    now = time.time()
    parts = ({"alg": "none"}, {"sub": USER, "iat": now, "exp": now + seconds})
    return ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in parts) + "."


WAYS: dict[str, dict[str, str]] = {
    "LOGIN": {"sasl_mechanism": "PLAIN", "sasl_username": USER, "sasl_password": PASSWORD},
    "TOKEN": {"sasl_mechanism": "OAUTHBEARER", "sasl_token_file": "token"},
    "SEALED": {
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": USER,
        "sasl_password_file": "password",
        "ca_file": "ca.pem",
    },
    "MUTUAL": {"ca_file": "ca.pem", "certificate_file": "client.pem", "key_file": "client.key"},
}


@pytest.mark.parametrize("listener", list(WAYS))
async def test_a_request_passes_over_a_listener_that_asks_who_we_are(
    bridge: Bridge, folder: Path, listener: str
) -> None:
    (folder / "token").write_text(token(600))
    (folder / "password").write_text(f"{PASSWORD}\n")
    given = {name: folder / value if name.endswith("_file") else value for name, value in WAYS[listener].items()}
    settings: dict[str, Any] = {
        "kafka_bootstrap_servers": f"127.0.0.1:{PORTS[listener]}",
        "kafka_security_protocol": LISTENERS[listener],
        **{f"kafka_{name}": value for name, value in given.items()},
    }
    async with bridge.service(**settings) as service:
        talk = Conversation(bridge, service)
        await talk.ask([chat(listener)])
        await talk.check()
        assert PASSWORD not in service.text()


def connected(service: Service) -> set[int]:
    """The local ports from which a service is connected to the listener that takes tokens."""
    found = psutil.Process(service.pid).net_connections(kind="tcp")
    return {each.laddr.port for each in found if each.raddr and each.raddr.port == PORTS["TOKEN"]}


@pytest.mark.long
async def test_connections_that_end_with_their_tokens_lose_and_double_nothing(bridge: Bridge, folder: Path) -> None:
    """The client never says anew who it is: each connection is cut off, and made again with the token of then."""
    file = folder / "short-token"

    async def renew() -> None:
        while True:
            file.write_text(token(TOKEN_SECONDS))
            await asyncio.sleep(TOKEN_SECONDS / 10)

    renewing = asyncio.create_task(renew())
    await asyncio.sleep(0)
    async with bridge.service(
        kafka_bootstrap_servers=f"127.0.0.1:{PORTS['TOKEN']}",
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="OAUTHBEARER",
        kafka_sasl_token_file=file,
        intake_linger_seconds=0.2,
    ) as service:
        talk = Conversation(bridge, service)
        first: set[int] = set()
        while not first:  # between two of them there can be none
            first = connected(service)
            await asyncio.sleep(0.01)
        for turn in range(4):
            await talk.ask([chat(f"token-{turn}-{number}", model=f"token-{turn}") for number in range(20)])
            await asyncio.sleep(TOKEN_SECONDS / 2)

        async def all_ended_that_were_connected_first() -> bool:
            return not first & connected(service)

        await until(all_ended_that_were_connected_first)
        assert service.logs("partition.halted") == []
        await talk.check()
    renewing.cancel()


@pytest.mark.long
async def test_a_password_that_changes_is_taken_up_by_clients_that_live_on(bridge: Bridge, folder: Path) -> None:
    file = folder / "login"
    file.write_text(PASSWORD)
    async with bridge.service(
        kafka_bootstrap_servers=f"127.0.0.1:{PORTS['LOGIN']}",
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username=USER,
        kafka_sasl_password_file=file,
    ) as service:
        talk = Conversation(bridge, service)
        await talk.ask([chat("before the change")])
        for password in ("another-canary-51c1", PASSWORD):
            await bridge.kafka.stop()
            bridge.kafka.settings = {**bridge.kafka.settings, PLAIN_USERS: plain_users(password)}
            file.write_text(password)
            await bridge.kafka.start()
            await talk.ask([chat(f"after the change to {password}")], timeout_seconds=120)
        await talk.check()


async def test_a_wrong_password_is_told_at_start_without_telling_it(bridge: Bridge) -> None:
    settings = {"sasl_mechanism": "PLAIN", "sasl_username": USER, "sasl_password": "wrong-canary"}
    for command in ("run", "check"):
        text = await told(bridge, command, PORTS["LOGIN"], security_protocol="SASL_PLAINTEXT", **settings)
        assert text == (
            f"cannot reach Kafka at 127.0.0.1:{PORTS['LOGIN']}: login refused: Authentication failed: Invalid username"
            " or password. Check PENSTOCK_KAFKA_SASL_MECHANISM, PENSTOCK_KAFKA_SASL_USERNAME and the password or token."
        )


async def told(bridge: Bridge, command: str, port: int | str, **settings: Any) -> str:
    """What a command says of brokers that it cannot use."""
    given = {f"kafka_{name}": value for name, value in settings.items()}
    servers = port if isinstance(port, str) else f"127.0.0.1:{port}"
    environment = bridge.environment(kafka_bootstrap_servers=servers, http_port=0, **given)
    if command == "check":
        finished = await penstock(environment, "check", "--only", "kafka", "--output", "json")
        [problem] = [each for each in finished.json["findings"] if each["level"] == "problem"]
        text = f"{problem['text']}. {problem['mend']}."
    else:
        finished = await penstock(environment, command)
        text = finished.err.removeprefix("penstock: ").removesuffix("\n")
    assert "wrong-canary" not in finished.out + finished.err
    return text


@pytest.mark.parametrize("command", ["run", "check"])
async def test_brokers_that_are_not_there_are_named_with_the_reason(bridge: Bridge, command: str) -> None:
    assert await told(bridge, command, "127.0.0.1:1,no-such-host.invalid:9092") == (
        "cannot reach Kafka at 127.0.0.1:1 (connection refused), no-such-host.invalid:9092 (host name not found). Check"
        " PENSTOCK_KAFKA_BOOTSTRAP_SERVERS, and that the brokers run."
    )


@pytest.mark.parametrize(
    ("listener", "protocol", "fault"),
    [
        ("SEALED", "PLAINTEXT", "closed"),
        ("LOGIN", "PLAINTEXT", "closed"),
        ("MUTUAL", "SSL", "untrusted"),
        ("LOGIN", "SSL", "closed"),
    ],
)
async def test_a_wrong_protocol_is_told(bridge: Bridge, listener: str, protocol: str, fault: str) -> None:
    port = PORTS[listener]
    wanted = {
        "closed": (
            "connection closed midway. Check PENSTOCK_KAFKA_SECURITY_PROTOCOL: a listener of another protocol, or one"
            " that asks for a client certificate, closes the connection."
        ),
        "untrusted": (
            "certificate not trusted: unable to get local issuer certificate. Check PENSTOCK_KAFKA_SECURITY_PROTOCOL"
            " and PENSTOCK_KAFKA_CA_FILE."
        ),
    }
    text = await told(bridge, "check", port, security_protocol=protocol)
    assert text == f"cannot reach Kafka at 127.0.0.1:{port}: {wanted[fault]}"


async def test_an_address_that_brokers_give_and_that_leads_nowhere_is_told(bridge: Bridge) -> None:
    assert await told(bridge, "run", PORTS["ASTRAY"]) == (
        f"cannot reach Kafka at 127.0.0.1:1: connection refused. The brokers at 127.0.0.1:{PORTS['ASTRAY']} give this"
        " address. Check advertised.listeners of the brokers, and the network."
    )


async def test_a_token_is_read_from_its_file_at_each_connect(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = KafkaSettings(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", sasl_token_file=file)
    provider = client_options(settings, "test")["sasl_oauth_token_provider"]
    for fresh in ("first", "second"):
        file.write_text(f"{fresh}\n")
        assert await provider.token() == fresh
