"""Connecting to the server that a DSN names, and what is said when there is none."""

import random
from collections.abc import Sequence
from typing import Any

import asyncpg

from penstock.network import CLOSED, Cause, Failure, Unreachable, cause_of
from penstock.postgres.dsn import Target, host_name

READ_ONLY = Cause(Failure.OTHER, "it is a read-only standby")
UNSUITABLE = Cause(Failure.OTHER, "it is not what target_session_attrs asks for")
NO_TLS = Cause(Failure.TLS, "the server does not offer TLS")
TRIED_NEXT = (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.InternalClientError)
"""After these the next host is tried: this one is away, starts or stops. What it refuses, all of them would."""
FIXES = {
    Failure.NAME: "Check the host name in {variable}",
    Failure.REFUSED: "Check the host and the port in {variable}, and that the server runs",
    Failure.TIMEOUT: "Check the host and the port in {variable}, and the firewalls on the way",
    Failure.TLS: "Check sslmode and sslrootcert in {variable}",
    Failure.CLOSED: "Check the host, the port and sslmode in {variable}",
}
REFUSALS = {
    "28": "Check the user and the password in {variable} or PENSTOCK_POSTGRES_PASSWORD_FILE",
    "3D": "Check the database's name in {variable}, or create the database",
    "42704": "Take the parameter out of {variable}",
    "53300": "Raise the server's max_connections, or lower PENSTOCK_POSTGRES_CONNECTIONS_MAX",
}
"""What to do about a refusal, by how its SQLSTATE begins."""


class PostgresAway(Unreachable, ConnectionError):
    """No server that the DSN names can be used now."""


class ReadOnlyServer(PostgresAway):
    """Every server that the DSN names is read-only."""


class PostgresRefused(Unreachable):
    """The server refuses us, and will again: user, password, database or a parameter is wrong."""


async def connect(target: Target, transient: Sequence[type[Exception]], **options: Any) -> Any:
    """Connect to the first host that takes us.

    Args:
        target: the hosts.
        transient: refusals that pass by themselves.
        options: as `asyncpg.connect` takes them.

    Raises:
        ReadOnlyServer: all hosts are read-only.
        PostgresAway: no host can be used; each is named with its reason.
        PostgresRefused: a host refuses us.
    """
    hosts = random.sample(target.hosts, len(target.hosts)) if target.shuffled else target.hosts
    standby_first = target.session_attrs == "prefer-standby"
    found: dict[str, Cause] = {}
    for attrs in ("standby", "any") if standby_first else (target.session_attrs,):
        for host in hosts:
            name = host_name(host)
            try:
                return await connect_host(target, host, attrs, options)
            except asyncpg.TargetServerAttributeNotMatched:
                found[name] = READ_ONLY if attrs in ("read-write", "primary") else UNSUITABLE
            except TRIED_NEXT as error:
                found[name] = cause_at(error, target)
            except asyncpg.PostgresError as error:
                raise refusal(error, name, target, transient) from error
    raise away(found, target)


async def connect_host(target: Target, host: tuple[str, int] | str, attrs: str, options: dict[str, Any]) -> Any:
    """Connect to one host, within its time."""
    place = {"host": host} if isinstance(host, str) else {"host": host[0], "port": host[1]}
    tls = {"ssl": target.tls} if target.tls is not None else {}
    how = {"timeout": target.connect_seconds, "target_session_attrs": attrs}
    return await asyncpg.connect(target.dsn, **{**options, **place, **tls, **how})


def cause_at(error: Exception, target: Target) -> Cause:
    """Why a host cannot be used."""
    if isinstance(error, asyncpg.PostgresError):
        return Cause(Failure.OTHER, message_of(error))
    cause = cause_of(error)
    if cause.failure is Failure.TIMEOUT:
        return Cause(Failure.TIMEOUT, f"no answer in {target.connect_seconds:g} s")
    if cause.failure is Failure.OTHER and isinstance(error, ConnectionError):  # asyncpg's own have their words alone
        return NO_TLS if "rejected SSL upgrade" in str(error) else CLOSED
    return cause


def message_of(error: asyncpg.PostgresError) -> str:
    """The server's words, without its hints."""
    return str(error).partition("\n")[0]


def refusal(
    error: asyncpg.PostgresError, name: str, target: Target, transient: Sequence[type[Exception]]
) -> PostgresAway | PostgresRefused:
    """What to raise when a host refuses us."""
    sqlstate = str(error.sqlstate)
    fix = next((text for begin, text in REFUSALS.items() if sqlstate.startswith(begin)), "Check {variable}")
    kind = PostgresAway if isinstance(error, tuple(transient)) else PostgresRefused
    return kind(f"Postgres at {name} refuses the connection: {message_of(error)}", fix.format(variable=target.variable))


def away(found: dict[str, Cause], target: Target) -> PostgresAway:
    """What to raise when no host can be used."""
    if all(each is READ_ONLY for each in found.values()):
        verb = "is a read-only standby" if len(found) == 1 else "are read-only standbys"
        fix = f"Point {target.variable} at the primary, or name every host in it (host1:5432,host2:5432)"
        return ReadOnlyServer(f"Postgres at {', '.join(found)} {verb}", fix)
    if len(found) == 1:
        [(name, cause)] = found.items()
        fix = FIXES.get(cause.failure, "Check {variable} and the server")
        return PostgresAway(f"cannot reach Postgres at {name}: {cause.text}", fix.format(variable=target.variable))
    hosts = ", ".join(f"{name} ({cause.text})" for name, cause in found.items())
    fix = f"Check the hosts in {target.variable}: one of them must take writes"
    return PostgresAway(f"cannot use Postgres at {hosts}", fix)
