"""What commands say of servers and addresses that cannot be used, as a user sees it."""

import socket

from tests.support.command import penstock

DSN = "postgresql://user:pass-canary@127.0.0.1:1/penstock"


async def test_a_port_that_is_taken_ends_run_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {"PENSTOCK_HTTP_HOST": "127.0.0.1", "PENSTOCK_HTTP_PORT": str(port), "PENSTOCK_POSTGRES_DSN": DSN}
        finished = await penstock(environment | {"PENSTOCK_PROVIDER_AUTH": "none"}, "run")
    assert (finished.code, finished.out) == (2, "")
    assert finished.err == (
        f"penstock: cannot listen on 127.0.0.1:{port}: address already in use. Stop the process that uses the port, or"
        " set PENSTOCK_HTTP_PORT to another one.\n"
    )
