"""`python -m tests.support.altered [--clock SECONDS] [--poll-interval SECONDS] … -- MODULE …`: a module, elsewhere.

What no setting reaches: a replica's wall clock, what its Kafka client allows between two polls, how often it looks at
its topics (`--topic-check SECONDS`), and how often it takes the census (`--census-round SECONDS`).
"""

import argparse
import datetime as dt
import runpy
import sys
import time
from datetime import datetime  # the true one, whatever stands in the module later

from aiokafka import AIOKafkaConsumer

from penstock.core.retry import CALL
from penstock.stages import census, intake

POLL_INTERVAL_SECONDS = 300.0


def shift_clock(seconds: float) -> None:
    """Set this process' wall clock forward, or back; its monotonic clock stays."""
    true_time = time.time

    class Kind(type):
        """What C code makes stays an instance."""

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Shifted(datetime, metaclass=Kind):
        """The same, but for the present."""

        __slots__ = ()

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain one
            return datetime.now(tz) + dt.timedelta(seconds=seconds)

    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: int(time.time() * 1e9)
    dt.datetime = Shifted  # type: ignore[misc]  # that is the point


def shorten_polls(seconds: float) -> None:
    """Let the client leave the group when it was not polled for so long, instead of 300 s; pauses shrink as much."""
    AIOKafkaConsumer.__init__.__kwdefaults__["max_poll_interval_ms"] = int(seconds * 1000)
    object.__setattr__(CALL, "last_seconds", CALL.last_seconds * seconds / POLL_INTERVAL_SECONDS)


def main(given: list[str]) -> None:
    """Alter what is named before `--`, and run what stands after it."""
    end = given.index("--")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clock", type=float, default=0.0)
    parser.add_argument("--poll-interval", type=float, default=POLL_INTERVAL_SECONDS)
    parser.add_argument("--topic-check", type=float, default=intake.TOPIC_CHECK_SECONDS)
    parser.add_argument("--census-round", type=float, default=census.ROUND_SECONDS)
    options = parser.parse_args(given[:end])
    shift_clock(options.clock)
    shorten_polls(options.poll_interval)
    intake.TOPIC_CHECK_SECONDS = options.topic_check
    census.ROUND_SECONDS = options.census_round
    sys.argv = given[end + 1 :]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


main(sys.argv[1:])
