"""How to reach the brokers: the settings as aiokafka's keyword arguments.

Secrets are read anew for each client, and by clients that live long for each connection.
"""

import ssl
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from penstock.settings import KafkaSettings

TRANSIENT = (KafkaError, OSError, TimeoutError)
"""What a client raises when the broker is away, slow or moving: back off and make a new client."""


class FileTokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped
    """An OAUTHBEARER token from a file that something else keeps fresh."""

    def __init__(self, file: Path) -> None:
        self.file = file

    async def token(self) -> str:
        """The token as it is now; a mounted file of some hundred bytes."""
        return self.file.read_text().strip()


class PasswordReader(AIOKafkaClient):  # type: ignore[misc]  # aiokafka is untyped
    """What a consumer or producer connects by, with the password as it is now; its own would keep the first one."""

    settings: KafkaSettings

    @property
    def _sasl_plain_password(self) -> str | None:
        return self.settings.read_password()


def read_password_anew(client: AIOKafkaClient, settings: KafkaSettings) -> None:
    """Let what a consumer or producer connects by take a changed password up; they take no client of ours."""
    if settings.sasl_password_file is not None:
        client.__class__ = PasswordReader
        client.settings = settings


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": client_id,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        if settings.certificate_file:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
        options["ssl_context"] = context
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_mechanism == "OAUTHBEARER" and settings.sasl_token_file:
            options["sasl_oauth_token_provider"] = FileTokenProvider(settings.sasl_token_file)
        else:
            options["sasl_plain_username"] = settings.sasl_username
            options["sasl_plain_password"] = settings.read_password()
    return options
