"""What strikes where: a failpoint, an action, once or twice."""

from enum import StrEnum
from typing import NamedTuple


class Action(StrEnum):
    """The ways to strike."""

    KILL = "kill"
    RAISE = "raise"
    HANG = "hang"
    LOSE = "lose"


MEANINGS = {
    Action.KILL: "SIGKILL when the effect is done and not yet known of; of two, the first dies before its effect",
    Action.RAISE: "an exception before the effect, at one replica's first pass, or at its first two",
    Action.HANG: "SIGSTOP before the effect; woken (SIGCONT) when others have done all the work; of two, both sleep",
    Action.LOSE: "the effect done and its answer lost, at one replica's first pass, or at its first two",
}
ENDS = (Action.KILL, Action.HANG)
"""What leaves a replica unable to strike again by itself: the second strike falls on its successor."""


class Case(NamedTuple):
    """One run."""

    name: str
    action: Action
    times: int

    @property
    def label(self) -> str:
        """For people and for names of folders."""
        return f"{self.name}-{self.action}-{self.times}"

    def arm(self, struck: int) -> str:
        """What a replica is armed with, after so many strikes."""
        tell = f"{self.name}=after:tell@1+"
        if self.action is Action.KILL:
            place = "before" if self.times - struck > 1 else "after"
            return f"{self.name}={place}:kill;{tell}"
        if self.action is Action.HANG:
            return f"{self.name}=before:pause;{tell}"
        place = "before" if self.action is Action.RAISE else "after"
        strikes = [f"{self.name}={place}:{self.action}@{each + 1}" for each in range(self.times - struck)]
        return ";".join([*strikes, tell])

    @property
    def watch(self) -> str:
        """What every other replica is armed with: it tells when it has passed the same place."""
        return f"{self.name}=after:tell@1+"
