"""How to reach the brokers: the settings as aiokafka's keyword arguments.

Secrets are read anew for each client, and by clients that live long for each connection.
"""

import ssl
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from penstock.files import reading, require_readable
from penstock.settings import KafkaSettings
from penstock.variables import variable

TRANSIENT = (KafkaError, OSError, TimeoutError)
"""What a client raises when the broker is away, slow or moving: back off and make a new client."""

CERTIFICATE_WRONG = "it holds no certificate in PEM form, or its key is another one's or has a password"


class FileTokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped
    """An OAUTHBEARER token from a file that something else keeps fresh."""

    def __init__(self, file: Path) -> None:
        self.file = file

    async def token(self) -> str:
        """The token as it is now; a mounted file of some hundred bytes."""
        with reading(variable(("kafka", "sasl_token_file")), self.file):
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
        options["ssl_context"] = tls_context(settings)
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_mechanism == "OAUTHBEARER" and settings.sasl_token_file:
            options["sasl_oauth_token_provider"] = FileTokenProvider(settings.sasl_token_file)
        else:
            options["sasl_plain_username"] = settings.sasl_username
            options["sasl_plain_password"] = settings.read_password()
    return options


def tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    """Whom to trust, and who we are.

    Raises:
        FileUnreadable: a file of the settings cannot be read or holds nothing of its kind.
    """
    files = {name: getattr(settings, name) for name in ("ca_file", "certificate_file", "key_file")}
    named = {variable(("kafka", name)): file for name, file in files.items() if file is not None}
    for setting, file in named.items():
        require_readable(setting, file)
    with reading(variable(("kafka", "ca_file")), settings.ca_file or "", "it holds no certificate in PEM form"):
        context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    if settings.certificate_file:
        setting = variable(("kafka", "certificate_file"))
        with reading(setting, settings.certificate_file, CERTIFICATE_WRONG):
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    return context
