"""Crash points 11 to 13: polls, batches and downloads go wrong, and nothing is lost or paid twice for it."""

import json
from itertools import pairwise
from typing import Any

import pytest

from tests.support.bridge import Bridge
from tests.support.command import penstock
from tests.support.crash import REST, batches, chats, settled, until
from tests.support.service import started

STATUS_HISTORY = (
    "CREATE TABLE status_history (id bigserial, batch_id uuid, status text)",
    """CREATE FUNCTION note_status() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO status_history (batch_id, status) VALUES (NEW.id, NEW.provider_status); RETURN NEW; END $$""",
    "CREATE TRIGGER note_status AFTER UPDATE OF provider_status ON batch FOR EACH ROW EXECUTE FUNCTION note_status()",
)
WAY = ["validating", "in_progress", "finalizing", "completed"]


@pytest.mark.defence("forward_only")
@pytest.mark.outcome("status-back", "single-poll-fails", "list-stale")
async def test_a_status_never_goes_back_whatever_polls_are_lost_or_come_late(bridge: Bridge) -> None:
    """Crash point 11: polls fail, and tell old statuses after new ones. Off: each status is recorded as it comes."""
    backwards = {"validating": {"status": "finalizing"}, "finalizing": {"status": "validating"}}
    rules: list[dict[str, Any]] = [
        {"operation": "batches.list", "nth": 2, "times": 2, "http": {"hide_newer_than_seconds": 60}},
        {"operation": "batches.list", "nth": 4, "times": 1, "http": {"drop": True}},
        {"operation": "batches.retrieve", "nth": 2, "times": 3, "http": {"status": 503}},
        {"batch": {"seconds": dict.fromkeys(WAY[:3], 1), "show": backwards}},
    ]
    await bridge.simulator.faults(rules)
    for statement in STATUS_HISTORY:
        await bridge.sql(statement)
    async with bridge.service():
        for model in ("gpt-4o", "gpt-4o-mini"):
            await bridge.produce(chats(5, model, model=model))
        await settled(bridge, 10)
    rows = await bridge.sql("SELECT batch_id, status FROM status_history ORDER BY batch_id, id")
    went_back = [
        f"{earlier['status']} became {later['status']}"
        for earlier, later in pairwise(rows)
        if earlier["batch_id"] == later["batch_id"] and WAY.index(earlier["status"]) > WAY.index(later["status"])
    ]
    assert not went_back, ", ".join(went_back)


@pytest.mark.defence("epoch_guard")
async def test_what_was_seen_of_an_earlier_batch_does_not_end_the_one_that_followed_it(bridge: Bridge) -> None:
    """Crash point 11: asleep with a poll that says failed, while the batch is created anew. Off: the epoch is not
    compared when a status is recorded."""
    failed = {"end": "failed", "failure": {"code": "server_error"}, "seconds": {"validating": 0.3}}
    await bridge.simulator.faults([{"times": 1, "batch": failed}, {"batch": {"seconds": {"validating": 3}}}])
    async with started(bridge.service(failpoints="poller.record=before:pause")) as zombie:
        await bridge.produce(chats(10), partition=0)
        await zombie.paused()
        async with bridge.service(stages=REST):

            async def created_anew() -> bool:
                await bridge.sql("UPDATE batch SET not_before = '-infinity' WHERE state = 'sealed'")
                [(state,)] = await bridge.sql("SELECT state FROM batch")
                return batches(bridge) == 2 and state == "submitted"

            await until(created_anew)
            zombie.wake()

            async def acted() -> bool:
                refused = await zombie.metric("penstock_stage_failures_total", stage="poller")
                return bool(refused or await zombie.metric("penstock_batches_ended_total"))

            await until(acted)
            [(state, status)] = await bridge.sql("SELECT state, provider_status FROM batch")
            assert status != "failed", f"a late poll of the first batch made the second one {state}"
            await settled(bridge, 10)
    assert batches(bridge) == 2


@pytest.mark.defence("reconciliation")
@pytest.mark.outcome("expired", "cancelled", "missing-line", "unexecuted-line")
async def test_what_a_batch_leaves_unanswered_is_sent_again(bridge: Bridge) -> None:
    """Crash point 12: batches expire, are cancelled, and complete with lines missing. Off: `completed` is trusted."""
    missing = 3
    ends: dict[str, dict[str, Any]] = {
        "gpt-4o": {"end": "expired", "done_fraction": 0.4},
        "gpt-4o-mini": {"end": "cancelled", "done_fraction": 0.7},
        "gpt-4.1": {"lines": [{"count": missing, "defect": "missing"}, {"count": 2, "defect": "in_both_files"}]},
        "gpt-4.1-mini": {"lines": [{"count": 2, "defect": "twice"}, {"count": 4, "code": "batch_expired"}]},
    }
    await bridge.simulator.faults(
        [{"when": {"model": model}, "times": 1, "batch": outcome} for model, outcome in ends.items()]
    )
    async with bridge.service():
        for model in ends:
            await bridge.produce(chats(10, model, model=model))
        report = await settled(bridge, 40, extra_executions_allowed=missing)
    assert report["statuses"] == {"200": 40}
    assert report["extra_executions"] == missing
    assert await bridge.simulator.fired() == [1, 1, 1, 1]


@pytest.mark.defence("whole_download")
@pytest.mark.outcome("download-short")
async def test_a_download_that_ends_early_is_not_taken_for_missing_lines(bridge: Bridge) -> None:
    """Crash point 13: the first download is cut, and says nothing of it. Off: any download is believed."""
    await bridge.simulator.faults([{"operation": "files.content", "nth": 1, "http": {"truncate_to_bytes": 1500}}])
    async with bridge.service(publisher_file_gone_seconds=0):
        await bridge.produce(chats(10), partition=0)
        await settled(bridge, 10)
    assert batches(bridge) == 1


LOST_FILE = {"operation": "files.content", "nth": 2, "http": {"status": 404}}
"""After the download that a decision stands on, the file is gone."""


@pytest.mark.defence("second_download")
@pytest.mark.outcome("download-lost-line")
async def test_paid_lines_that_are_gone_with_the_spool_are_sent_again(bridge: Bridge) -> None:
    """Crash point 13: spool and file are lost between decision and publishing. Off: the decision stands as it is."""
    await bridge.simulator.faults([{**LOST_FILE, "times": 1}])
    async with bridge.service(failpoints="collector.decide=after:lose", publisher_file_gone_seconds=0):
        await bridge.produce(chats(10), partition=0)
        await settled(bridge, 10, extra_executions_allowed=10)
    assert batches(bridge) == 2


@pytest.mark.outcome("cancel-ended")
async def test_a_decided_batch_whose_file_cannot_be_had_again_is_ended_by_a_cancel(bridge: Bridge) -> None:
    await bridge.simulator.faults([{"operation": "files.content", "nth": 2, "times": 1000, "http": {"status": 500}}])
    async with bridge.service(failpoints="collector.decide=after:lose") as service:
        await bridge.produce(chats(10), partition=0)
        await service.logged("batch.waits")
        [(batch_id, state)] = await bridge.sql("SELECT id, state FROM batch")
        assert state == "decided"
        done = await penstock(bridge.environment(), "cancel", batch_id, "--yes")
        assert done.code == 0, done
        await settled(bridge, 10)
    received = bridge.reader.received[bridge.result_topic]
    assert [json.loads(each.value or b"")["error"]["code"] for each in received] == ["batch_cancelled"] * 10
    assert batches(bridge) == 1


@pytest.mark.defence("own_clock_and_epoch")
async def test_a_zombie_does_not_send_again_what_the_new_owner_has_sent_again(bridge: Bridge) -> None:
    """Crash points 13 and 20: asleep before it requeues lost lines. Off: neither its clock nor the epoch stops it."""
    await bridge.simulator.faults([{**LOST_FILE, "times": 2}])
    settings: dict[str, Any] = {"publisher_file_gone_seconds": 0, "stages": REST}
    pauses = "collector.decide=after:lose;collector.revise=before:pause"
    async with bridge.service(stages="intake"), started(bridge.service(failpoints=pauses, **settings)) as zombie:
        await bridge.produce(chats(10), partition=0)
        await zombie.paused()
        async with started(bridge.service(failpoints="publisher.mark=before:pause", **settings)) as owner:
            await owner.paused()
            zombie.wake()

            async def acted() -> bool:
                return bool(zombie.logs("slot.lost") or zombie.logs("lines.lost"))

            await until(acted)
            owner.wake()
            await settled(bridge, 10, extra_executions_allowed=10)
    assert batches(bridge) == 2
