import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import penstock
from penstock.telemetry import failpoint as module
from penstock.telemetry.failpoint import ACTIONS, NAMES, PLACES, FailpointError, arm, failpoint

KILLED = """
import asyncio
from penstock.telemetry.failpoint import failpoint
from penstock.telemetry.log import configure_logging

configure_logging("warning")

@failpoint("somewhere")
async def act():
    print("done", flush=True)

asyncio.run(act())
print("survived", flush=True)
"""


class Effect:
    """Something that is done, and how often."""

    def __init__(self) -> None:
        self.done = 0

    @failpoint("test.effect")
    async def act(self, answer: str = "answer") -> str:
        self.done += 1
        return answer


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")
    NAMES.discard("test.effect")


async def passes(effect: Effect, times: int) -> list[bool]:
    """Which of so many passes went through."""
    through = []
    for _ in range(times):
        try:
            await effect.act()
        except FailpointError:
            through.append(False)
        else:
            through.append(True)
    return through


async def test_an_unarmed_failpoint_changes_nothing() -> None:
    effect = Effect()
    assert await effect.act(answer="mine") == "mine"
    arm("elsewhere=before:raise")
    assert await effect.act() == "answer"
    assert effect.done == 2


@pytest.mark.parametrize(("place", "done"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("action", ["raise", "lose"])
async def test_it_strikes_before_or_after_the_effect(place: str, action: str, done: int) -> None:
    arm(f"test.effect={place}:{action}")
    effect = Effect()
    with pytest.raises(FailpointError, match=f"test.effect {place}"):
        await effect.act()
    assert effect.done == done
    assert await effect.act() == "answer"


async def test_it_takes_the_way_of_a_lost_connection() -> None:
    assert issubclass(FailpointError, ConnectionError)


async def test_it_strikes_on_the_pass_that_was_asked_for() -> None:
    arm("test.effect=before:raise@3")
    assert await passes(Effect(), 5) == [True, True, False, True, True]
    arm("test.effect=before:raise@3+")
    assert await passes(Effect(), 5) == [True, True, False, False, False]


async def test_a_pass_counts_for_all_that_are_armed_at_a_place() -> None:
    arm("test.effect=before:raise@1;test.effect=before:raise@2")
    assert await passes(Effect(), 3) == [False, False, True]


async def test_several_can_be_armed_and_new_ones_replace_them() -> None:
    arm(" test.effect=before:raise@1 ; test.effect=after:lose@2;")
    effect = Effect()
    assert await passes(effect, 4) == [False, True, False, True]
    assert effect.done == 3
    arm("")
    assert await passes(effect, 1) == [True]


async def test_what_only_tells_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    arm("test.effect=after:tell@2+")
    assert await passes(Effect(), 3) == [True, True, True]
    assert capsys.readouterr().out.count("failpoint.struck") == 2


async def test_a_hang_ends_when_it_is_cancelled() -> None:
    arm("test.effect=after:hang")
    effect = Effect()
    task = asyncio.create_task(asyncio.wait_for(effect.act(), timeout=60))
    while not effect.done:
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("place", "printed"), [("before", ""), ("after", "done\n")])
def test_a_kill_ends_the_process_at_once(place: str, printed: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={"PYTHONPATH": str(Path(penstock.__file__).parents[1]), module.VARIABLE: f"somewhere={place}:kill"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, printed)
    told = json.loads(ended.stderr)
    assert (told["event"], told["name"], told["place"]) == ("failpoint.struck", "somewhere", place)


def test_a_pause_ends_when_the_process_is_woken() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        env={"PYTHONPATH": str(Path(penstock.__file__).parents[1]), module.VARIABLE: "somewhere=before:pause"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        ends_at = time.monotonic() + 30
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < ends_at:
            time.sleep(0.01)
        process.send_signal(signal.SIGCONT)
        printed, _ = process.communicate(timeout=30)
    assert time.monotonic() < ends_at
    assert (process.returncode, printed) == (0, "done\nsurvived\n")


@pytest.mark.parametrize(
    "text",
    ["x", "x=", "x=before", "x=during:raise", "x=before:explode", "x=before:raise@soon", "=:"],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|PENSTOCK_FAILPOINTS"):
        arm(text)


def test_places_and_actions_are_those_of_the_documentation() -> None:
    text = module.__doc__ or ""
    assert all(f"``{place}``" in text for place in PLACES)
    assert all(f"\n{action} " in text for action in ACTIONS)
