"""TLS before a database: the embedded Postgres is built without it, so that a relay shows the certificate."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

SSL_REQUEST = struct.pack("!II", 8, 80877103)
PIECE_BYTES = 65536


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, until nothing does."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def sealed(dsn: str, certificate: Path, key: Path) -> AsyncIterator[str]:
    """The DSN of the same database behind a relay that takes nobody without TLS, as `hostssl` does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    url = urlsplit(dsn)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(context)
                server_reader, server_writer = await asyncio.open_connection(url.hostname, url.port)
                await asyncio.gather(relay(reader, server_writer), relay(server_reader, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield dsn.replace(f":{url.port}/", f":{port}/")
    finally:
        server.close()
