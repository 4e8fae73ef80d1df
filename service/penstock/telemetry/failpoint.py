"""Failpoints: every I/O of a stage passes one by name, free when none is armed.

``PENSTOCK_FAILPOINTS="intake.store=after:kill@3;batches.create=after:lose"`` arms them: *place*, *action*, and the
pass at which it strikes (default 1; ``@3+`` strikes from the third on). ``before`` is before the effect, ``after`` when
it is done and its answer is not yet seen.

=========  ===========================================================
action     what happens
=========  ===========================================================
kill       SIGKILL of this process
raise      `FailpointError`
lose       the same, said of an effect that is done (use with ``after``)
hang       nothing, for ever (until cancelled)
pause      SIGSTOP of this process; it goes on when it gets SIGCONT
tell       nothing but the log line that every action writes first
=========  ===========================================================
"""

import asyncio
import functools
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import structlog

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()

VARIABLE = "PENSTOCK_FAILPOINTS"
PLACES = ("before", "after")
ACTIONS = ("kill", "raise", "lose", "hang", "pause", "tell")


class FailpointError(ConnectionError):
    """Raised by an armed failpoint; a ConnectionError, so that it takes the way of a lost connection."""


@dataclass(slots=True)
class Strike:
    """One armed failpoint."""

    place: str
    action: str
    nth: int
    onwards: bool
    passes: int = 0

    def due(self) -> bool:
        """Count this pass; whether the strike falls on it."""
        self.passes += 1
        return self.passes == self.nth or (self.onwards and self.passes > self.nth)


NAMES: set[str] = set()
"""Every failpoint of the code, by import."""
armed: dict[str, list[Strike]] = {}


def arm(text: str) -> None:
    """Arm failpoints from the variable's text; an empty text disarms all.

    Raises:
        ValueError: it cannot be read.
    """
    armed.clear()
    for entry in filter(None, (piece.strip() for piece in text.split(";"))):
        name, _, rest = entry.partition("=")
        place, _, rest = rest.partition(":")
        action, _, count = rest.partition("@")
        if place not in PLACES or action not in ACTIONS:
            raise ValueError(f"{VARIABLE}: {entry!r} is not NAME=before|after:{'|'.join(ACTIONS)}[@N[+]]")
        strike = Strike(place, action, int(count.rstrip("+") or 1), count.endswith("+"))
        armed.setdefault(name, []).append(strike)


async def strike(name: str, place: str) -> None:
    """Do what is armed here."""
    for each in [each for each in armed.get(name, ()) if each.place == place and each.due()]:
        log.warning("failpoint.struck", name=name, place=place, action=each.action)
        if each.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if each.action == "hang":
            await asyncio.Event().wait()
        if each.action == "pause":
            os.kill(os.getpid(), signal.SIGSTOP)
        if each.action in ("raise", "lose"):
            raise FailpointError(f"failpoint {name} {place}")


def failpoint(
    name: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Decorate the one function that does an I/O with a failpoint before and after it."""
    NAMES.add(name)

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if not armed:
                return await function(*args, **kwargs)
            await strike(name, "before")
            answer = await function(*args, **kwargs)
            await strike(name, "after")
            return answer

        return guarded

    return decorate


arm(os.environ.get(VARIABLE, ""))
