"""The service on a database that speaks TLS alone, and shows a certificate."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.bridge import Bridge
from tests.support.certificates import certificates
from tests.support.request import chat
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
    for dsn in (verified(sealed_dsn, other), verified(elsewhere, bridge.folder)):
        service = bridge.service(postgres_dsn=dsn)
        await service.start()
        assert await service.exited() != 0
        assert service.text().startswith("penstock: SSLCertVerificationError: ")
