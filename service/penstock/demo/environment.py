"""What the demonstration takes from the process's environment: nothing of the service's, unless it is told to."""

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.variables import OTHER_VARIABLES, PREFIX

PROVIDERS_OWN = "OPENAI_"
"""The provider's SDK reads a key, a server, an organization and a project from variables that begin so."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables of the process, and whether those of the service count.

    Args:
        variables: all of them.
        used: servers that they name are used instead of embedded ones.
    """

    variables: Mapping[str, str]
    used: bool = False

    @property
    def settings(self) -> Mapping[str, str]:
        """The variables that settings are read from."""
        return self.variables if self.used else {}

    @property
    def ignored(self) -> list[str]:
        """The names of variables that would lead to servers of the user's own, and do not count."""
        return [] if self.used else sorted(filter(leads_elsewhere, self.variables))

    @property
    def inherited(self) -> dict[str, str]:
        """What the service's process gets."""
        left_out = frozenset(self.ignored)
        return {name: value for name, value in self.variables.items() if name not in left_out}

    def names(self, *settings: str) -> bool:
        """Whether one of these settings, each without its prefix, is given and counts."""
        return any(self.settings.get(PREFIX + name) for name in settings)


def leads_elsewhere(name: str) -> bool:
    """Whether a variable is a setting of the service, or one that the provider's SDK reads."""
    upper = name.upper()
    return upper.startswith(PROVIDERS_OWN) or (upper.startswith(PREFIX) and upper not in OTHER_VARIABLES)
