from dataclasses import replace

import pytest

from penstock.cli.resume import Situation, choose, told
from penstock.core.answered import AnsweredSpan
from penstock.core.errors import ConfigurationError
from penstock.postgres.intake_store import Stand


def situation(
    position: int | None, *, committed: int | None = None, first: int = 0, end: int = 100, halted: bool = True
) -> Situation:
    stand = None if position is None else Stand(position, "a reason" if halted else None, 0)
    return Situation(stand, committed, first, end)


def test_it_goes_on_where_postgres_stands_and_skips_nothing() -> None:
    here = situation(40, committed=40)
    assert choose(here, None) == 40
    assert here.consequences(40) == ["nothing is skipped and nothing doubled"]


def test_what_the_topic_no_longer_has_is_told_as_lost() -> None:
    here = situation(40, first=60)
    assert choose(here, None) == 60
    assert here.consequences(60) == ["20 offsets from 40 are no longer in the topic: those messages are lost"]


def test_what_an_operator_skips_is_told_apart_from_what_is_lost() -> None:
    lost, skipped = situation(40, first=60).consequences(75)
    assert lost.startswith("20 offsets")
    assert skipped == "15 offsets before 75 are skipped: their messages get no answer"


def test_going_back_is_told_to_double() -> None:
    assert "offsets 10 to 39 were stored before" in situation(40).consequences(10)[0]


def test_what_postgres_lost_may_double() -> None:
    here = situation(40, committed=70)
    assert choose(here, None) == 40
    assert here.consequences(40) == [
        (
            "offsets 40 to 69 were committed, but Postgres lost them: those answered before answer twice; "
            "penstock resume restored leaves them out"
        )
    ]
    assert here.consequences(70) == ["30 offsets before 70 are skipped: their messages get no answer"]


def test_what_postgres_lost_and_is_known_to_be_answered_is_left_out() -> None:
    here = replace(situation(40), committed=70, stand=Stand(40, "a reason", 0, [AnsweredSpan(30, 69)]))
    assert here.consequences(40) == [
        "offsets 40 to 69 were committed, but Postgres lost them: they are known to be answered, and left out"
    ]


def test_a_topic_never_seen_begins_where_the_group_was_or_at_its_first_message() -> None:
    assert choose(situation(None, committed=30), None) == 30
    assert choose(situation(None, committed=300, first=5), None) == 5
    assert choose(situation(None, first=5), None) == 5


def test_a_position_past_the_end_takes_an_operators_word() -> None:
    with pytest.raises(ConfigurationError, match="say where with --at"):
        choose(situation(140), None)
    assert choose(situation(140), 100) == 100


@pytest.mark.parametrize("at", [4, 101])
def test_a_place_outside_the_topic_is_refused(at: int) -> None:
    with pytest.raises(ConfigurationError, match="takes 5 to 100"):
        choose(situation(40, first=5), at)


def test_a_partition_that_runs_is_left_alone() -> None:
    with pytest.raises(ConfigurationError, match="not halted"):
        choose(situation(40, halted=False), None)
    assert choose(situation(40, halted=False), 50) == 50


def test_the_situation_is_told_before_its_consequences() -> None:
    lines = told(situation(40, committed=70), 40)
    assert lines[0] == "halted: a reason"
    assert lines[1] == "Postgres stands at 40; the group committed 70; the topic holds 0 to 100"
    assert told(situation(None), 0)[1].startswith("Postgres stands nowhere")
