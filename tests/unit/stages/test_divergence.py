"""Whether a log is still the one that a position was read from: the decision alone."""

import pytest

from penstock.kafka.leader_epochs import EpochEnd, EpochQuestion
from penstock.kafka.topics import Leader
from penstock.stages.divergence import Divergence, divergence, doubt, question

FENCED = 74


@pytest.mark.parametrize(
    ("stored", "answer", "found"),
    [
        (3, EpochEnd(0, 10), None),
        (3, EpochEnd(0, 11), None),
        (3, EpochEnd(0, 4), Divergence(4, 10)),
        (3, EpochEnd(0, -1), Divergence(None, 10)),
        (None, EpochEnd(0, 4), None),
        (3, EpochEnd(FENCED, -1), None),
        (3, None, None),
    ],
    ids=["ends there", "goes on", "cut", "unknown epoch", "no epoch stored", "fenced", "not asked"],
)
def test_a_log_diverged_if_the_stored_epoch_ends_before_the_position(
    stored: int | None, answer: EpochEnd | None, found: Divergence | None
) -> None:
    assert divergence(10, stored, answer) == found


def test_the_reason_names_the_offsets_exactly() -> None:
    assert "offsets 4 to 9 are lost" in Divergence(4, 10).reason
    assert "from offset 9 are lost" in Divergence(9, 10).reason
    assert "offset 9 was taken" in Divergence(None, 10).reason


def test_a_leader_is_asked_for_the_stored_epoch_or_for_the_current_one() -> None:
    leader = Leader(2, 7)
    assert question(leader, 7, 3) == EpochQuestion(2, 7, 3)
    assert question(leader, 7, None) == EpochQuestion(2, 7, 7)
    assert question(leader, None, 3) is None
    assert question(Leader(-1, 7), 7, 3) is None


@pytest.mark.parametrize(
    ("epoch", "leader", "answer", "sure"),
    [
        (7, Leader(2, 7), EpochEnd(0, 10), True),
        (7, Leader(2, 7), EpochEnd(FENCED, -1), False),
        (7, Leader(-1, 7), None, False),
        (7, Leader(2, 7), EpochEnd(0, 4), False),
        (None, Leader(2, 7), None, False),
        (None, Leader(2, -1), None, True),
    ],
    ids=["confirmed", "fenced", "no leader", "cut", "epochs came", "no epochs at all"],
)
def test_what_was_fetched_is_stored_only_if_its_leader_confirms_it(
    epoch: int | None, leader: Leader, answer: EpochEnd | None, sure: bool
) -> None:
    assert (doubt(10, epoch, 3, leader, answer) == "") is sure
