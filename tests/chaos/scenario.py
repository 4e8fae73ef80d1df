"""Workloads, and which of them reaches which failpoint."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from tests.support.bridge import Bridge
from tests.support.crash import bury
from tests.support.poison import poison
from tests.support.request import chat
from tests.support.stack import admin_client

LANES = """
[defaults]
age_max_seconds = 0.3
attempts_max = 3
retry_min_seconds = 0.1
retry_max_seconds = 0.3

[[lane]]
model = "patient"
age_max_seconds = 3
"""
WAVE = 8
"""Requests of a lane in a wave."""
NOTHING_WAITS = "UPDATE batch SET not_before = '-infinity' WHERE state = 'sealed' AND not_before > clock_timestamp()"
"""A wait of minutes is over at once."""
FILES_GONE = """
    UPDATE batch SET output_file_id = 'file-gone-output', error_file_id = 'file-gone-error'
    WHERE state = 'decided' AND next_position = 0 AND finals > 0
"""
"""The provider no longer has what was decided on, whoever publishes it."""


async def nothing(_: Bridge) -> None:
    """What most scenarios need beside their rules."""


@dataclass(frozen=True)
class Scenario:
    """A workload of waves, and the world that it meets."""

    lanes: Sequence[str] = ("plain", "beside")
    """The models of a wave."""
    dead: int = 2
    """Messages of a wave that can be no request."""
    faults: Sequence[Mapping[str, Any]] = ()
    """Rules of the simulator."""
    headers: Sequence[tuple[str, bytes]] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    arms: str = ""
    """Failpoints that an armed replica has beside the one that is struck."""
    nudges: Sequence[str] = ()
    """Statements that are run again and again: time that passes, or an operator who acts."""
    prepare: Callable[[Bridge], Awaitable[None]] = nothing
    begin: Callable[[Bridge], Awaitable[None]] = nothing
    """What goes wrong once a replica that is to be struck has started."""
    mend: Callable[[Bridge], Awaitable[None]] = nothing
    """What an operator does before another replica starts, and when all has struck."""
    drains: bool = False
    """An armed replica gets SIGTERM under way."""
    topics: int = 0
    """Result topics beside the usual one."""
    alone: bool = False
    """Nobody works beside the replica that is to be struck, who might pass the place first."""
    loses: bool = False
    """The provider loses what is paid for."""
    halts: bool = False
    """Something halts, as it must."""
    rest: str = "SELECT 0"
    """Counts what is left to do when all is answered."""

    async def wave(self, bridge: Bridge, number: int) -> int:
        """Produce a wave; returns how many messages it is."""
        lines: list[dict[str, Any] | bytes] = [
            chat(f"{model}-{number}-{each}", model=model) for each in range(WAVE) for model in self.lanes
        ]
        lines += [b"no request"] * self.dead
        await bridge.produce(lines, headers=self.headers)
        return len(lines)


def refusal(model: str, times: int, **failure: Any) -> dict[str, Any]:
    """A rule: batches of a model fail at validation."""
    return {"when": {"model": model}, "times": times, "batch": {"end": "failed", "failure": failure}}


def http(operation: str, times: int, **fault: Any) -> dict[str, Any]:
    """A rule: calls go wrong."""
    return {"operation": operation, "times": times, "http": fault}


def failing(model: str, times: int) -> dict[str, Any]:
    """A rule: two lines of a batch fail, unpaid."""
    return {"when": {"model": model}, "times": times, "batch": {"lines": [{"count": 2, "status_code": 500}]}}


LIMIT = "Enqueued token limit reached for limited. Limit: 100,000 enqueued tokens."
STUCK = {"stuck": "cancelling", "show": {"*": {"expires_at": 1}}, "seconds": {"in_progress": 3600}}
CLEANED = """
    SELECT count(*) FROM batch
    WHERE state = 'published' AND (files_removed_at IS NULL OR ledger_cleared_at IS NULL)
"""
HINTS = """
    INSERT INTO webhook (account, id, provider_batch_id)
    SELECT 'default', gen_random_uuid(), provider_batch_id FROM batch WHERE provider_open
"""
"""Webhooks as they come to any replica, many times."""
WITHDRAWN = "UPDATE batch SET cancel = 'answer' WHERE state = 'sealed' AND cancel IS NULL"
NOTED = "INSERT INTO audit (action, target, detail) VALUES ('cancel', 'all', '{}')"
SMALL_RING = "UPDATE ring SET turns = 3"


async def shrink_ring(bridge: Bridge) -> None:
    """A ring of three tables comes round soon, so that stragglers are copied."""
    await bridge.sql(SMALL_RING)


RESUMED = "UPDATE position SET halted_reason = NULL, position = 1 WHERE halted_reason IS NOT NULL AND position = 0"


POISONED = (0, 1)
"""Partitions; beside them there is one that can be read."""


async def poison_some(bridge: Bridge) -> None:
    """Let partitions begin with a record that cannot be decoded."""
    for partition in POISONED:
        await poison(bridge, partition)


async def remove_poison(bridge: Bridge) -> None:
    """Let the topic begin after those records, for the checker reads it, too; and let everybody look again."""
    async with admin_client(bridge.kafka) as admin:
        first = {TopicPartition(bridge.requests, partition): RecordsToDelete(1) for partition in POISONED}
        await admin.delete_records(first)
    await bury(bridge)


async def send_elsewhere(bridge: Bridge) -> None:
    """Give a lane a result topic of its own."""
    (topic,) = bridge.more_results
    bridge.lanes.write_text(f'{LANES}\n[[lane]]\nmodel = "elsewhere"\nresult_topic = "{topic}"\n')


async def take_topic(bridge: Bridge) -> None:
    """Delete the result topic of a lane."""
    async with admin_client(bridge.kafka) as admin:
        await admin.delete_topics(bridge.more_results)


async def give_topic_back(bridge: Bridge) -> None:
    """Create it anew, if it is not there."""
    async with admin_client(bridge.kafka) as admin:
        missing = set(bridge.more_results) - set(await admin.list_topics())
        await admin.create_topics([NewTopic(each, 3, 1) for each in missing])


SCENARIOS = {
    "usual": Scenario(faults=[failing("beside", 3)]),
    "cleaning": Scenario(
        settings={
            "janitor_interval_seconds": 0.3,
            "janitor_file_grace_seconds": 0.5,
            "janitor_payload_turn_seconds": 0.5,
            "history_days": 2e-3,
        },
        prepare=shrink_ring,
        rest=CLEANED,
    ),
    "refused": Scenario(
        lanes=("line", "again", "limited"),
        dead=0,
        faults=[
            refusal("line", 4, code="invalid_request", line=2),
            refusal("again", 4, code="server_error"),
            refusal("limited", 4, code="token_limit_exceeded", message=LIMIT),
        ],
        nudges=[NOTHING_WAITS],
        alone=True,
    ),
    "doubtful": Scenario(
        dead=0,
        faults=[
            http("files.create", 12, status=503),
            http("batches.create", 4, status=400, message="Cannot find file."),
            http("batches.create", 6, effect="late", late_seconds=3.0),
        ],
        settings={"submitter_settle_seconds": 2, "provider_timeout_seconds": 2},
        nudges=[NOTHING_WAITS],
        alone=True,
    ),
    "unwilling": Scenario(
        dead=0,
        faults=[http("batches.create", 6, status=404, code="model_not_found")],
        nudges=[NOTHING_WAITS],
        alone=True,
    ),
    "late": Scenario(lanes=("patient",), dead=0, headers=[("penstock-deadline-seconds", b"0.5")]),
    "unserved": Scenario(
        lanes=("plain",),
        dead=0,
        headers=[("penstock-deadline-seconds", b"2")],
        faults=[http("files.create", 1000, status=503)],
    ),
    "withdrawn": Scenario(
        lanes=("plain",), dead=0, faults=[http("files.create", 1000, status=503)], nudges=[WITHDRAWN, NOTED]
    ),
    "limited": Scenario(lanes=("plain",), dead=0, settings={"provider_usd_per_day_max": 1000}),
    "stuck": Scenario(
        lanes=("plain", "slow"),
        dead=0,
        faults=[{"when": {"model": "slow"}, "times": 4, "batch": STUCK}],
        settings={"poller_stuck_grace_seconds": 0, "poller_cancel_grace_seconds": 0.5},
        alone=True,
    ),
    "halted": Scenario(
        lanes=("plain", "ours"),
        dead=0,
        faults=[refusal("ours", 4, code="duplicate_custom_id")],
        nudges=[NOTHING_WAITS, "UPDATE lane SET halted_reason = NULL WHERE halted_reason IS NOT NULL"],
        halts=True,
        alone=True,
    ),
    "lost": Scenario(
        lanes=("plain",),
        dead=0,
        settings={"publisher_file_gone_seconds": 0},
        arms="collector.decide=after:lose@1+",
        alone=True,
        loses=True,
        nudges=[FILES_GONE],
    ),
    "hinted": Scenario(settings={"webhook_port": 0, "webhook_secret": "whsec_c2VjcmV0"}, nudges=[HINTS]),
    "drained": Scenario(drains=True),
    "poisoned": Scenario(
        dead=0,
        nudges=[RESUMED],
        prepare=poison_some,
        mend=remove_poison,
        alone=True,
        halts=True,
    ),
    "parked": Scenario(
        dead=0,
        lanes=("plain", "elsewhere"),
        settings={"lease_seconds": 8},
        topics=1,
        alone=True,
        prepare=send_elsewhere,
        begin=take_topic,
        mend=give_topic_back,
    ),
}
"""By name. What a failpoint is not named for below is reached by the usual one."""

OTHERS = {
    "cleaning": (
        "files.delete",
        "janitor.advance",
        "janitor.empty",
        "janitor.files_due",
        "janitor.forward",
        "janitor.look",
        "janitor.mark_files_removed",
        "publisher.ledger_keys_due",
        "publisher.mark_ledger_cleared",
    ),
    "refused": ("collector.again", "collector.learn_limit", "collector.split"),
    "doubtful": ("submitter.looked_up", "submitter.postpone", "submitter.refused"),
    "unwilling": ("submitter.answer",),
    "late": ("sealer.expire",),
    "unserved": ("submitter.expire",),
    "limited": ("sealer.spending",),
    "withdrawn": ("census.forget_audit", "submitter.withdraw"),
    "stuck": ("batches.cancel", "poller.abandon", "poller.request_cancel"),
    "halted": ("collector.halt_lane",),
    "lost": ("collector.revise",),
    "poisoned": ("intake.halt_partition", "intake.poll_one"),
    "parked": ("publisher.park",),
    "hinted": ("poller.take_hints",),
    "drained": ("census.leave", "intake.leave"),
}
ONCE_ONLY = {
    ("intake.ensure_positions", "lose"): "a first position that is written is never written again",
    ("intake.poll_one", "lose"): "once what cannot be read is halted, no partition is polled by itself",
}
"""Where no second strike can fall."""


def scenario_of(failpoint: str) -> str:
    """The scenario that reaches a failpoint, by name."""
    return next((name for name, reached in OTHERS.items() if failpoint in reached), "usual")
