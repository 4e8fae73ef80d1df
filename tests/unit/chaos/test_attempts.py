"""What the page of `make chaos` tells of attempts that failed."""

from pathlib import Path

from tests.chaos.attempts import Attempt, clean, commit, note, read
from tests.chaos.case import Action, Case
from tests.chaos.page import page
from tests.chaos.run import Outcome

FIRST, SECOND = (Case("intake.store", Action.KILL, times) for times in (1, 2))
OUTCOME = Outcome(extra=1, counted=2, followed_seconds=0.5, finished_seconds=3.0)


def test_an_attempt_that_failed_stays_on_record_and_on_the_page(tmp_path: Path) -> None:
    attempts = [
        Attempt(FIRST, None, "before"),
        Attempt(SECOND, OUTCOME, "before"),
        Attempt(FIRST, None, "after"),
        Attempt(FIRST, OUTCOME, "after"),
    ]
    for each in attempts:
        note(tmp_path / "record", each)
    assert read(tmp_path / "record") == attempts
    assert clean(attempts) == {FIRST: OUTCOME, SECOND: OUTCOME}
    text = page(attempts)
    assert "4 attempts, of which 2 failed and were made again: `intake.store-kill-1` 2 times.\n" in text
    assert "2 clean runs; commit `before`, `after`; " in text
    assert "0 failures" not in text


def test_without_failures_the_page_bounds_their_rate() -> None:
    text = page([Attempt(FIRST, OUTCOME, commit()), Attempt(SECOND, OUTCOME, commit())])
    assert "2 runs, 0 failures: at 95 % the rate of failures is below 150.00%.\n" in text


def test_a_run_without_a_clean_attempt_is_not_done(tmp_path: Path) -> None:
    note(tmp_path / "record", Attempt(FIRST, None, commit()))
    assert clean(read(tmp_path / "record")) == {}
    assert read(tmp_path / "nothing") == []
