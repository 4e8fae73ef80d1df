"""The service on a database that speaks TLS alone, and shows a certificate."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from penstock.postgres.reach import PostgresAway
from tests.support.bridge import Bridge
from tests.support.certificates import certificates
from tests.support.request import chat
from tests.support.rows import opened
from tests.support.sealed import sealed


@pytest.fixture
async def sealed_dsn(bridge: Bridge) -> AsyncIterator[str]:
    await asyncio.to_thread(certificates, bridge.folder, "server")
    async with sealed(bridge.dsn, bridge.folder / "server.pem", bridge.folder / "server.key") as dsn:
        yield dsn


def verified(dsn: str, folder: Path) -> str:
    """Reach the database only if an authority vouches for its certificate and address."""
    return f"{dsn}?sslmode=verify-full&sslrootcert={folder / 'ca.pem'}"


async def test_a_database_is_reached_over_tls_when_its_authority_vouches_for_it(
    bridge: Bridge, sealed_dsn: str
) -> None:
    async with bridge.service(postgres_dsn=verified(sealed_dsn, bridge.folder)):
        await bridge.produce([chat("sealed")])
        await bridge.results(1)
        await bridge.check()


async def test_a_database_that_another_authority_vouches_for_or_that_has_another_name_is_refused(
    bridge: Bridge, sealed_dsn: str
) -> None:
    other = bridge.folder / "other"
    other.mkdir()
    await asyncio.to_thread(certificates, other)
    elsewhere = sealed_dsn.replace("127.0.0.1", "localhost")
    port = urlsplit(sealed_dsn).port
    reasons = {
        (verified(sealed_dsn, other), "127.0.0.1"): "unable to get local issuer certificate",
        (verified(elsewhere, bridge.folder), "localhost"): (
            "Hostname mismatch, certificate is not valid for 'localhost'"
        ),
    }
    for (dsn, host), why in reasons.items():
        service = bridge.service(postgres_dsn=dsn)
        await service.start()
        assert await service.exited() != 0
        assert service.text() == (
            f"penstock: cannot reach Postgres at {host}:{port}: certificate not trusted: {why}. Check sslmode and"
            " sslrootcert in PENSTOCK_POSTGRES_DSN.\n"
        )


async def test_the_systems_authorities_vouch_for_a_database(
    bridge: Bridge, sealed_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bridge.folder / "ca.pem"))  # OpenSSL's own name for the system's store
    async with opened(f"{sealed_dsn}?sslrootcert=system") as database, database.transaction() as connection:
        assert await connection.raw.fetchval("SELECT 1") == 1
    with pytest.raises(PostgresAway, match="certificate not trusted: Hostname mismatch"):
        async with opened(sealed_dsn.replace("127.0.0.1", "localhost") + "?sslrootcert=system&sslmode=verify-full"):
            pass
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(PostgresAway, match="certificate not trusted: unable to get local issuer certificate"):
        async with opened(f"{sealed_dsn}?sslrootcert=system"):
            pass
