"""Whether a partition's log is still the one that a position was read from (KIP-320).

A leader is asked where the epoch ends under which the position was stored. An end before the position says that the log
was cut there: an election or a broker's crash lost records that were read, and others take their offsets.
"""

from typing import NamedTuple

from penstock.kafka.leader_epochs import EpochEnd, EpochQuestion
from penstock.kafka.topics import Leader

NO_EPOCH = -1
"""What a broker gives that keeps no leader epochs, and the end of an epoch that a leader does not know."""
NOT_AUTHORIZED = 29
"""Kafka's code for a topic that we may not describe."""


class Divergence(NamedTuple):
    """Records before a position were lost; ``first`` is the first one's offset, None when it is not known."""

    first: int | None
    position: int

    @property
    def reason(self) -> str:
        """What happened, with the exact offsets."""
        last = self.position - 1
        if self.first is None:
            return f"the log was replaced: its leader does not know the epoch under which offset {last} was taken"
        offsets = f"offset {last}" if self.first == last else f"offsets {self.first} to {last}"
        return f"the log was cut at offset {self.first}: the messages that were taken from {offsets} are lost in Kafka"


def question(leader: Leader | None, current: int | None, stored: int | None) -> EpochQuestion | None:
    """What to ask of a partition's leader; None when there is nobody to ask, or the broker keeps no epochs.

    Args:
        leader: as metadata tells.
        current: the leader epoch that we believe to be in force.
        stored: the epoch under which the position was stored; None when it has none yet.
    """
    if leader is None or leader.node < 0 or current is None:
        return None
    return EpochQuestion(leader.node, current, current if stored is None else stored)


def divergence(position: int, stored: int | None, answer: EpochEnd | None) -> Divergence | None:
    """Whether records before a position were replaced.

    Args:
        position: up to which records were taken.
        stored: the epoch under which the position was stored; None proves nothing.
        answer: of the leader; None or an error proves nothing.
    """
    if stored is None or answer is None or answer.error or answer.offset >= position:
        return None
    return Divergence(None if answer.offset == NO_EPOCH else answer.offset, position)


def epoch_of(leader: Leader | None) -> int | None:
    """The epoch that metadata tells; None when the broker keeps none."""
    return None if leader is None or leader.epoch == NO_EPOCH else leader.epoch


def doubt(position: int, epoch: int | None, stored: int | None, leader: Leader | None, answer: EpochEnd | None) -> str:
    """Why a span may not be stored; empty when its leader has confirmed it.

    Args:
        position: where the span starts.
        epoch: in force when the span's fetching began; None when the broker told none.
        stored: the epoch of the position.
        leader: as metadata tells now.
        answer: of that leader, asked with ``epoch``.
    """
    if epoch is None:
        return "the broker tells a leader epoch now" if epoch_of(leader) is not None else ""
    if answer is None:
        return "its leader could not be asked"
    if answer.error:
        return f"its leader answers error {answer.error} to epoch {epoch}"
    lost = divergence(position, stored, answer)
    return lost.reason if lost else ""
