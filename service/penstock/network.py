"""What goes wrong between this process and a server, in plain words."""

import os
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import NamedTuple

from penstock.core.errors import PenstockError

TEXT_LENGTH = 200
NUMBERED = re.compile(r"\[Errno (\d+)\]")
"""asyncio tells the failures of a name's several addresses in one text."""
NAME_UNKNOWN = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"})
"""OpenSSL's names for an answer that is not TLS."""


class Failure(Enum):
    """Kinds of failure; what an operator checks depends on them."""

    NAME = auto()
    REFUSED = auto()
    TIMEOUT = auto()
    TLS = auto()
    CLOSED = auto()
    LOGIN = auto()
    OTHER = auto()


class Cause(NamedTuple):
    """Why a server cannot be used."""

    failure: Failure
    text: str


CLOSED = Cause(Failure.CLOSED, "connection closed midway")
TIMED_OUT = Cause(Failure.TIMEOUT, "timed out")
BY_TYPE: dict[type[BaseException], Cause] = {
    ConnectionRefusedError: Cause(Failure.REFUSED, "connection refused"),
    TimeoutError: TIMED_OUT,
    ConnectionResetError: CLOSED,
    ConnectionAbortedError: CLOSED,
    BrokenPipeError: CLOSED,
    EOFError: CLOSED,
}


class Unreachable(PenstockError):
    """A server or an address cannot be used.

    Args:
        what: the server, its address, and what happened there.
        fix: what to check or set; a sentence without its full stop.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}. {fix}.")
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}. {self.fix}."


class AddressUnusable(Unreachable, OSError):
    """This process cannot listen on an address."""


def address(host: str, port: int | str) -> str:
    """Host and port as people write them; an IPv6 address has brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cause_of(error: BaseException) -> Cause:
    """Why a connection failed: the first error of the chain that says it, from the last one that was raised."""
    for each in chain(error):
        if found := named(each):
            return found
    if isinstance(error, PenstockError):
        return Cause(Failure.OTHER, str(error))
    text = " ".join(str(error).split())[:TEXT_LENGTH]
    return Cause(Failure.OTHER, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, or after; httpx hides the system's errors from tracebacks."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def named(error: BaseException) -> Cause | None:
    """What one error says by itself; None when it says nothing that is known."""
    if isinstance(error, BaseExceptionGroup):
        return several(cause_of(each) for each in error.exceptions)
    if isinstance(error, PenstockError):
        return Cause(Failure.OTHER, str(error))
    if isinstance(error, socket.gaierror):
        why = "" if error.errno in NAME_UNKNOWN else f" ({lowered(error.strerror)})"
        return Cause(Failure.NAME, f"host name not found{why}")
    if isinstance(error, ssl.SSLError):
        return tls_cause(error)
    for kind, cause in BY_TYPE.items():
        if isinstance(error, kind):
            return cause
    if isinstance(error, OSError):
        if error.errno is not None:
            return Cause(Failure.OTHER, lowered(error.strerror))
        if numbers := NUMBERED.findall(str(error)):
            return several(cause_of(OSError(int(each), os.strerror(int(each)))) for each in numbers)
    return None


def tls_cause(error: ssl.SSLError) -> Cause:
    """What a failed TLS handshake says."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Cause(Failure.TLS, f"certificate not trusted: {error.verify_message.rstrip('.')}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return CLOSED
    if error.reason in NO_TLS:
        return Cause(Failure.TLS, "the server does not speak TLS on this port")
    return Cause(Failure.TLS, f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}")


def several(causes: Iterable[Cause]) -> Cause | None:
    """The causes of several addresses of one name as one, each told once."""
    by_text = {each.text: each for each in causes}
    if not by_text:
        return None
    return Cause(next(iter(by_text.values())).failure, " and ".join(by_text))


def lowered(text: str | None) -> str:
    """The system's words as a part of a sentence."""
    return text[:1].lower() + text[1:] if text else "unknown error"
