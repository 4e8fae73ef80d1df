"""Tenants of a lane take turns, and priorities overtake, while a model's tokens are short."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from penstock.core.turn import Priority, share_of
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import open_bridge
from tests.support.conversation import Conversation, chats
from tests.support.request import chat

DUMP, FEW, TURNS = 20_000, 100, 4
LIMIT = 40_000
LANES = """
[defaults]
age_max_seconds = 0.5
retry_min_seconds = 0.2

[[lane]]
model = "tight"
enqueued_tokens_max = {}
"""
BATCHES = """
SELECT b.id, b.priority, b.sealed_at, b.submitted_at,
    sum(p.requests) FILTER (WHERE c.share = $1 AND c.priority = $2)::integer AS own, b.requests
FROM batch AS b
JOIN part AS p ON p.batch_id = b.id
JOIN chunk AS c ON c.id = p.chunk_id
JOIN lane AS l ON l.id = b.lane_id
WHERE l.model = 'tight' AND b.sealed_at > (SELECT max(created_at) FROM chunk WHERE share = $1 AND priority = $2)
GROUP BY b.id ORDER BY b.sealed_at
"""
SEALED_AHEAD = """
SELECT tokens FROM batch AS b
WHERE state = 'sealed' AND NOT EXISTS (SELECT FROM reservation AS r WHERE r.batch_id = b.id)
"""
OVERTAKEN = "SELECT count(*) FROM batch WHERE sealed_at < $1 AND coalesce(submitted_at, 'infinity') > $2"
GONE = "SELECT sum(requests) FROM batch WHERE submitted_at <= $1"


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    defences_off: tuple[str, ...],
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("fairness")
    async with (
        open_bridge(
            kafka,
            postgres,
            folder,
            partitions=1,
            lanes=LANES.format(LIMIT),
            simulator={"in_progress_seconds": 1},
            defences_off=defences_off,
        ) as bridge,
        bridge.service(intake_linger_seconds=0.2, submitter_concurrency=4) as service,
    ):
        yield Conversation(bridge, service)


async def dump(talk: Conversation, count: int) -> list[str]:
    """Let tenant A send a great deal, and wait until most of it stands in line; the ids of what it sent."""
    lines = [chat(f"dumped-{number}", model="tight") for number in range(count)]
    for first in range(0, count, 5000):
        await talk.bridge.produce(lines[first : first + 5000], headers=[("tenant", b"A")])
    await talk.service.reached("penstock_requests_received_total", count)
    await talk.service.reached("penstock_windows_held", 1)
    return [each["custom_id"] for each in lines]


async def overtaking(talk: Conversation, name: str, headers: Sequence[tuple[str, bytes]]) -> list[Any]:
    """Send a few requests, and wait for their answers; the batches sealed since they were stored, in order."""
    lines = [chat(f"{name}-{number}", model="tight") for number in range(FEW)]
    await talk.ask(lines, headers=headers, timeout_seconds=120)
    priority = Priority.HIGH if len(headers) > 1 else Priority.NORMAL
    return await talk.bridge.sql(BATCHES, share_of("B"), priority)


@pytest.mark.defence("take_turns", "sealed_late")
async def test_who_sends_little_does_not_wait_for_who_sent_much_and_a_high_priority_for_nobody(
    talk: Conversation,
) -> None:
    """Off: they wait until all is gone that came before."""
    assert share_of("A") != share_of("B")
    bridge = talk.bridge
    dumped = await dump(talk, DUMP)

    ahead = sum(row["tokens"] for row in await bridge.sql(SEALED_AHEAD))
    assert ahead < 2 * LIMIT, "what is sealed ahead is about a load, not all that waits"
    batches = await overtaking(talk, "few", [("tenant", b"B")])
    assert [bool(each["own"]) for each in batches[:2]] == [True, True] or batches[0]["own"] == FEW
    assert sum(each["own"] or 0 for each in batches[:2]) == FEW, "they are in the first batches sealed after they came"

    overtaken = 0
    for turn in range(TURNS):  # now and then nothing is sealed ahead in that moment
        batches = await overtaking(talk, f"urgent-{turn}", [("tenant", b"B"), ("penstock-priority", b"high")])
        urgent = [each for each in batches if each["own"]][-1]
        assert (urgent["own"], urgent["priority"]) == (FEW, Priority.HIGH)
        [(overtaken,)] = await bridge.sql(OVERTAKEN, urgent["sealed_at"], urgent["submitted_at"])
        if overtaken:
            break
    assert overtaken, "it went before some that had been sealed and waited"
    [(gone,)] = await bridge.sql(GONE, urgent["submitted_at"])
    assert gone < DUMP * 9 / 10, "much of what had come first still waited then"

    bridge.lanes.write_text(LANES.format(100 * LIMIT))
    await talk.service.stop()
    async with bridge.service(intake_linger_seconds=0.2, submitter_concurrency=4) as service:
        after = Conversation(bridge, service)
        await after.answers(dumped, timeout_seconds=180)
        await after.check()


async def test_another_try_keeps_tenant_and_priority(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("again")
    async with (
        open_bridge(kafka, postgres, folder, partitions=1) as bridge,
        bridge.service() as service,
    ):
        talk = Conversation(bridge, service)
        await bridge.simulator.faults([{"times": 1, "batch": {"lines": [{"count": 2, "status_code": 500}]}}])
        headers = [("tenant", b"A"), ("penstock-priority", b"low")]
        answers = await talk.ask(chats("again", 5), headers=headers)
        assert [each.header("tenant") for each in answers] == ["A"] * 5
        chunks = await bridge.sql("SELECT attempt, requests, share, priority FROM chunk ORDER BY attempt")
        turn = share_of("A"), Priority.LOW
        assert [tuple(each) for each in chunks] == [(0, 5, *turn), (1, 2, *turn)]
        batches = await bridge.sql("SELECT priority FROM batch")
        assert [each["priority"] for each in batches] == [Priority.LOW] * 2
        await talk.check()
