"""What is said of an address that cannot be listened on."""

import errno
import socket
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette

from penstock.http.server import HttpServer
from penstock.network import AddressUnusable


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("section", ["http", "webhook"])
async def test_a_port_that_is_taken_is_named_with_its_setting(taken: int, section: str) -> None:
    with pytest.raises(AddressUnusable) as refused:
        await HttpServer("127.0.0.1", taken, Starlette(), section=section).start()
    assert str(refused.value) == (
        f"cannot listen on 127.0.0.1:{taken}: address already in use. Stop the process that uses the port, or set"
        f" PENSTOCK_{section.upper()}_PORT to another one."
    )


@pytest.mark.parametrize(
    ("host", "why"),
    [("192.0.2.1", "cannot assign requested address"), ("no-such-host.invalid", "host name not found")],
)
async def test_an_address_that_is_not_ours_is_named_with_its_setting(host: str, why: str) -> None:
    with pytest.raises(AddressUnusable) as refused:
        await HttpServer(host, 8080, Starlette()).start()
    assert (
        str(refused.value)
        == f"cannot listen on {host}:8080: {why}. Set PENSTOCK_HTTP_HOST to an address of this machine."
    )


async def test_a_port_that_takes_a_privilege_is_named_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(AddressUnusable) as refused:
        await HttpServer("127.0.0.1", 80, Starlette()).start()
    assert str(refused.value) == (
        "cannot listen on 127.0.0.1:80: permission denied. Ports below 1024 need a privilege: set PENSTOCK_HTTP_PORT to"
        " a higher one."
    )
