"""What operators did, noted in the transaction that carries it out; a replica writes it to the log."""

import getpass
import socket

from penstock.postgres.database import Connection


async def note(connection: Connection, action: str, target: str, **detail: object) -> None:
    """Note an operator's word for the audit log."""
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    await connection.execute("insert_audit", action, target, {"by": by, **detail})
