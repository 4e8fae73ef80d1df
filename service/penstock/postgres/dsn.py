"""The DSN as asyncpg resolves it, and the parameters of libpq that asyncpg does not know."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
from asyncpg import connect_utils

from penstock.core.errors import ConfigurationError
from penstock.files import FileUnreadable, reading, require_readable
from penstock.network import address

CONNECT_SECONDS = 15.0
"""How long one host may take to accept a connection, where the DSN does not say it."""
CONNECT_SECONDS_MIN = 2.0
"""libpq takes 1 second for 2 as well."""
SYSTEM = "system"
NOT_FOR_OTHERS = 0o077
TLS_FILES = ("sslrootcert", "sslcrl", "sslcert", "sslkey")
VERIFYING = ("require", "verify-ca", "verify-full")
SESSION_ATTRS = tuple(each.value for each in connect_utils.SessionAttribute)
FORM = (
    "it takes postgresql://user:password@host:5432/database, with the characters @ : / ? # [ ] % of user and password"
    " written as %40 %3A %2F %3F %23 %5B %5D %25"
)


class Rule(NamedTuple):
    """What becomes of a parameter that asyncpg does not know.

    Args:
        safe: the values with which it can be left out; None: every value.
        why: what holds instead; a sentence of docs/reference/settings.md and of the refusal.
    """

    safe: frozenset[str] | None
    why: str


def _only(*safe: str) -> frozenset[str]:
    return frozenset({"", *safe})


_TCP = Rule(None, "Penstock gives up a statement after 60 s by itself")
_NAMED = Rule(None, "Penstock ends its own sleeping sessions by the name that it gives them")
_NO_KEYS = Rule(_only(), "Penstock takes the password alone")
PARAMETERS: Mapping[str, Rule] = {
    "application_name": _NAMED,
    "fallback_application_name": _NAMED,
    "client_encoding": Rule(None, "Penstock always speaks UTF-8"),
    "keepalives": _TCP,
    "keepalives_idle": _TCP,
    "keepalives_interval": _TCP,
    "keepalives_count": _TCP,
    "tcp_user_timeout": _TCP,
    "sslcompression": Rule(None, "Penstock never compresses TLS"),
    "sslkeylogfile": Rule(None, "Penstock writes no keys of TLS"),
    "gssdelegation": Rule(None, "Penstock delegates no credentials"),
    "max_protocol_version": Rule(None, "Penstock speaks protocol 3.0"),
    "min_protocol_version": Rule(_only("3.0"), "Penstock speaks protocol 3.0"),
    "channel_binding": Rule(
        _only("disable", "prefer"), "Penstock has no channel binding; sslmode=verify-full proves the server"
    ),
    "require_auth": Rule(_only(), "Penstock answers whatever login the server asks for; sslmode=verify-full proves it"),
    "gssencmode": Rule(_only("disable", "prefer"), "Penstock encrypts by TLS alone; see sslmode"),
    "requiressl": Rule(_only("0"), "sslmode=require says the same"),
    "sslcertmode": Rule(_only("allow"), "Penstock sends the client certificate if there is one and the server asks"),
    "sslsni": Rule(_only("1"), "Penstock always tells the server's name in TLS"),
    "sslcrldir": Rule(_only(), "Penstock reads revocation lists from the file of sslcrl alone"),
    "requirepeer": Rule(_only(), "Penstock does not look at who owns a socket"),
    "scram_client_key": _NO_KEYS,
    "scram_server_key": _NO_KEYS,
    "hostaddr": Rule(_only(), "Penstock looks the host up by itself; write the address as the host"),
    "replication": Rule(_only("0", "false", "off", "no"), "Penstock reads and writes tables"),
    "servicefile": Rule(_only(), "the variable PGSERVICEFILE says the same"),
    "pgbouncer": Rule(_only("false"), "PENSTOCK_POSTGRES_STATEMENT_CACHE=false is for PgBouncer in transaction mode"),
}
"""libpq's parameters, and others that hosted databases give, which asyncpg would send to the server as settings."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a DSN leads.

    Args:
        dsn: what asyncpg is given.
        variable: that the DSN came from.
        hosts: host and port of each server, or a socket's path.
        session_attrs: what a server must be.
        connect_seconds: how long one host may take.
        shuffled: the hosts are tried in random order.
        tls: whom to trust, where asyncpg does not read it from the DSN.
    """

    dsn: str
    variable: str
    hosts: tuple[tuple[str, int] | str, ...]
    session_attrs: str
    connect_seconds: float
    shuffled: bool
    tls: ssl.SSLContext | None


def read_target(dsn: str, variable: str) -> Target:
    """Read a DSN.

    Raises:
        ConfigurationError: it cannot be read, or demands what cannot be given. No value of it is told.
        FileUnreadable: a file that it names cannot be read.
    """
    try:
        parts = urlsplit(dsn)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ConfigurationError(f"{variable} cannot be read: {FORM}") from None
    for name in sorted(query.keys() & PARAMETERS.keys()):
        require_safe(name, query.pop(name).strip().lower(), variable)
    seconds = connect_seconds(query.pop("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT", "")), variable)
    balance = one_of("load_balance_hosts", query.pop("load_balance_hosts", ""), ("disable", "random"), variable)
    attrs = query.pop("target_session_attrs", os.environ.get("PGTARGETSESSIONATTRS", ""))
    tls = read_tls(query, variable)
    require_password_file(query, variable)
    left = {name: value for name, value in query.items() if value}
    plain = urlunsplit(parts._replace(query=urlencode(left, quote_via=quote)))
    return Target(
        dsn=plain,
        variable=variable,
        hosts=resolve_hosts(plain, variable, tls),
        session_attrs=one_of("target_session_attrs", attrs, SESSION_ATTRS, variable) or "read-write",
        connect_seconds=seconds,
        shuffled=balance == "random",
        tls=tls,
    )


def require_safe(name: str, value: str, variable: str) -> None:
    """Refuse a parameter that changes something if it is left out."""
    rule = PARAMETERS[name]
    if rule.safe is not None and value not in rule.safe:
        takes = " or ".join(f"{name}={each}" for each in sorted(rule.safe) if each)
        raise ConfigurationError(
            f"{variable}: Penstock cannot do what the parameter {name} demands: {rule.why}. Take the parameter out"
            + (f", or write {takes}." if takes else ".")
        )


def one_of(name: str, value: str, values: tuple[str, ...], variable: str) -> str:
    """A parameter's value, if it is one of these or empty."""
    if value and value not in values:
        raise ConfigurationError(f"{variable}: the parameter {name} takes {', '.join(values)}")
    return value


def connect_seconds(value: str, variable: str) -> float:
    """The time for one host; what means no limit to libpq means Penstock's own."""
    try:
        seconds = int(value or 0)
    except ValueError:
        raise ConfigurationError(f"{variable}: the parameter connect_timeout takes whole seconds") from None
    return max(float(seconds), CONNECT_SECONDS_MIN) if seconds > 0 else CONNECT_SECONDS


def resolve_hosts(dsn: str, variable: str, tls: ssl.SSLContext | None) -> tuple[tuple[str, int] | str, ...]:
    """The servers, as asyncpg finds them in the DSN, in libpq's variables or in its defaults."""
    nothing: dict[str, Any] = dict.fromkeys(
        [
            "host",
            "port",
            "user",
            "password",
            "passfile",
            "database",
            "service",
            "servicefile",
            "direct_tls",
            "server_settings",
            "target_session_attrs",
            "krbsrvname",
            "gsslib",
        ]
    )
    try:
        found, _ = connect_utils._parse_connect_dsn_and_args(dsn=dsn, ssl=tls, **nothing)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    except asyncpg.ClientConfigurationError as error:
        detail = FORM if "@" in str(error) else str(error)  # it may quote what follows a password's @
        raise ConfigurationError(f"{variable} cannot be read: {detail}") from None
    except ValueError:
        raise ConfigurationError(f"{variable} cannot be read: {FORM}") from None
    except OSError as error:
        what = "a certificate or key in libpq's folder or service file"
        raise FileUnreadable(variable, what, error.strerror or "it cannot be read") from error
    return tuple(found)


def host_name(host: tuple[str, int] | str) -> str:
    """A server for people; what may be the end of a password with an @ is left out."""
    return host if isinstance(host, str) else address(host[0].rpartition("@")[2], host[1])


class NamedFile(NamedTuple):
    """A file that the DSN or one of libpq's variables names.

    Args:
        setting: the parameter and where it stands, or the variable.
        path: of the file, or `system`.
    """

    setting: str
    path: str


def file_of(name: str, query: Mapping[str, str], variable: str) -> NamedFile | None:
    """The file of a parameter; None when nothing names one."""
    if path := query.get(name):
        return NamedFile(f"{variable}: {name}", path)
    from_libpq = "PG" + name.upper()
    path = os.environ.get(from_libpq)
    return NamedFile(from_libpq, path) if path else None


def read_tls(query: Mapping[str, str], variable: str) -> ssl.SSLContext | None:
    """Prove the files of TLS that are named; asyncpg's own errors name none of them.

    Returns:
        What asyncpg is to use where the system's store of authorities is asked for, which asyncpg does not know.

    Raises:
        ConfigurationError: the system's store is asked for, and a mode that does not verify the server.
        FileUnreadable: a file cannot be read, or is of another kind.
    """
    mode = query.get("sslmode") or os.environ.get("PGSSLMODE", "")
    files = {name: found for name in TLS_FILES if (found := file_of(name, query, variable))}
    root, revoked = files.get("sslrootcert"), files.get("sslcrl")
    system = root is not None and root.path == SYSTEM
    if system and mode not in ("", "verify-full"):
        raise ConfigurationError(f"{files['sslrootcert'].setting}={SYSTEM} takes sslmode=verify-full")
    if mode == "disable":
        return None
    context = ssl.create_default_context() if system else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if system or mode in VERIFYING:
        for authorities in (None if system else root, revoked):
            load_authorities(context, authorities)
    load_certificate(context, files, query.get("sslpassword", ""))
    if not system:
        return None
    if revoked:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    context.minimum_version = tls_version("ssl_min_protocol_version", query, variable, "TLSv1.2")
    context.maximum_version = tls_version("ssl_max_protocol_version", query, variable, "MAXIMUM_SUPPORTED")
    context.set_alpn_protocols(["postgresql"])
    return context


def load_authorities(context: ssl.SSLContext, file: NamedFile | None) -> None:
    """Load certificates or revocation lists."""
    if file is not None:
        require_readable(file.setting, file.path)
        with reading(file.setting, file.path, "it holds nothing in PEM form"):
            context.load_verify_locations(cafile=file.path)


def load_certificate(context: ssl.SSLContext, files: Mapping[str, NamedFile], password: str) -> None:
    """Load the client's certificate and key."""
    certificate, key = files.get("sslcert"), files.get("sslkey")
    for each in (certificate, key):
        if each is not None:
            require_readable(each.setting, each.path)
    if certificate is not None:
        wrong = "it holds no certificate in PEM form, or its key (sslkey, sslpassword) is another one's"
        with reading(certificate.setting, certificate.path, wrong):
            context.load_cert_chain(certificate.path, key.path if key else None, lambda: password)


def tls_version(name: str, query: Mapping[str, str], variable: str, default: str) -> ssl.TLSVersion:
    """A version of TLS that a parameter names."""
    try:
        return ssl.TLSVersion[(query.get(name) or default).replace(".", "_")]
    except KeyError:
        raise ConfigurationError(f"{variable}: the parameter {name} takes TLSv1.2 or TLSv1.3") from None


def require_password_file(query: Mapping[str, str], variable: str) -> None:
    """Prove the password file that is named; asyncpg leaves out in silence what it cannot or may not read."""
    file = file_of("passfile", query, variable)
    if file is None:
        return
    require_readable(file.setting, file.path)
    if Path(file.path).stat().st_mode & NOT_FOR_OTHERS:
        raise FileUnreadable(file.setting, file.path, "group or others may read it: take that right away (mode 0600)")
