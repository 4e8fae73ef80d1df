"""Everything that is wrong with a configuration, told at once, with the name that was probably meant."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from penstock.core.errors import ConfigurationError

CLOSE = 0.6
"""How alike two names must be, from 0 to 1, for one to be taken for a slip of the other."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one; None when none is."""
    return next(iter(get_close_matches(name, sorted(known), 1, CLOSE)), None)


def meant(name: str, known: Iterable[str]) -> str:
    """A question for the end of a sentence, `; did you mean model?`; empty when no known name is close."""
    close = nearest(name, known)
    return f"; did you mean {close}?" if close else ""


@dataclass(slots=True)
class Problems:
    """Collects problems, so that a user corrects all of them after one run."""

    found: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """One problem: its place, what is wrong, and what the place takes."""
        self.found.append(text)

    def unknown(self, where: str, name: str, known: Iterable[str]) -> None:
        """A name that is not known at a place."""
        known = sorted(known)
        self.add(f"{where} is unknown; it takes {', '.join(known)}{meant(name, known)}")

    def settle(self) -> None:
        """End the collection.

        Raises:
            ConfigurationError: there is a problem; it holds all of them.
        """
        if self.found:
            raise ConfigurationError(*self.found)
