"""A batch that the provider made of a create which was taken as lost: paid for twice, counted once."""

from typing import Any

import pytest

from tests.support.bridge import Bridge
from tests.support.conversation import Conversation
from tests.support.crash import batches, chats, until
from tests.support.payments import IN_DOUBT, payments
from tests.support.service import Service

COUNTED = "penstock_duplicate_executions_total"
QUICK: dict[str, Any] = {"provider_timeout_seconds": 1, "submitter_look_up_seconds": 0.3}
ALL_BUT_JANITOR = "intake,seal,submit,poll,collect,publish"


async def counted(service: Service) -> float:
    """What a janitor has counted, once it has looked."""
    await service.reached("penstock_stage_progress_timestamp_seconds", 1, stage="janitor")
    return await service.metric(COUNTED, cause="create")


@pytest.mark.outcome("create-too-late")
async def test_a_create_that_landed_after_all_is_counted_once_though_it_is_over(bridge: Bridge) -> None:
    late = {"operation": "batches.create", "times": 1, "http": {"effect": "late", "late_seconds": 6}}
    await bridge.simulator.faults([late])
    async with bridge.service(stages=ALL_BUT_JANITOR, **QUICK):
        await bridge.produce(chats(5), partition=0)
        await bridge.results(5)

    async def both_are_over() -> bool:
        over = (await bridge.simulator.control_state())["batches"] == {"completed": 2}
        return over and len(bridge.simulator.journal()) == 12

    await until(both_are_over)
    found = []
    for _ in range(2):
        async with bridge.service(stages="janitor") as janitor:
            found.append(await counted(janitor))
    assert found == [5, 0]
    paid = await payments(bridge)
    assert (paid.published, dict(paid.extra), paid.unexplained) == (5, {IN_DOUBT: 5}, [])
    await bridge.check(extra_executions_allowed=5)


@pytest.mark.outcome("create-429-done")
async def test_a_create_that_was_refused_and_made_all_the_same_is_counted(bridge: Bridge) -> None:
    made = {"operation": "batches.create", "times": 1, "http": {"status": 429, "effect": "done"}}
    await bridge.simulator.faults([made])
    async with bridge.service(stages=ALL_BUT_JANITOR) as service:
        await bridge.produce(chats(5), partition=0)
        await service.logged("create.refused")
        await Conversation(bridge, service).answers([f"request-{number}" for number in range(5)], hurry=True)
    async with bridge.service(stages="janitor") as janitor:
        assert await counted(janitor) == 5
    assert batches(bridge) == 2
    paid = await payments(bridge)
    assert (paid.published, dict(paid.extra), paid.unexplained) == (5, {IN_DOUBT: 5}, [])
    await bridge.check(extra_executions_allowed=5)


@pytest.mark.parametrize("metadata", [True, False], ids=["by-metadata", "by-file"])
@pytest.mark.defence("twins")
@pytest.mark.outcome("create-doubled")
async def test_a_create_that_was_doubled_on_its_way_is_counted(bridge: Bridge, *, metadata: bool) -> None:
    """Off: a batch that nobody knows executes everything a second time, and nobody hears of it."""
    rules: list[dict[str, Any]] = [{"operation": "batches.create", "times": 1, "http": {"copies": 2}}]
    if not metadata:
        rules.append({"batch": {"show": {"*": {"metadata": None}}}})
    await bridge.simulator.faults(rules)
    async with bridge.service(stages=ALL_BUT_JANITOR):
        await bridge.produce(chats(5), partition=0)
        await bridge.results(5)
    found = []
    for _ in range(2):
        async with bridge.service(stages="janitor") as janitor:
            found.append(await counted(janitor))
    assert found == [5, 0], "the twin was not counted, or not once"
    await bridge.check(extra_executions_allowed=5)


@pytest.mark.outcome("create-doubled")
async def test_a_twin_that_still_runs_is_cancelled(bridge: Bridge) -> None:
    slow = {"batch": {"seconds": {"in_progress": 600}}}
    await bridge.simulator.faults([{"operation": "batches.create", "times": 1, "http": {"copies": 2}}, slow])

    async def seen(statuses: dict[str, int]) -> bool:
        found: dict[str, int] = (await bridge.simulator.control_state())["batches"]
        return found == statuses

    async with bridge.service(stages=ALL_BUT_JANITOR) as service:
        await bridge.produce(chats(5), partition=0)
        await service.reached("penstock_batches_submitted_total", 1)
        async with bridge.service(stages="janitor"):
            await until(lambda: seen({"in_progress": 1, "cancelled": 1}))
