"""`penstock redrive`: dead letters become requests again, each once, whatever interrupts it."""

from collections import Counter

import pytest

from tests.support.bridge import Bridge
from tests.support.command import Finished, penstock
from tests.support.request import chat

NARROW = "[defaults]\nage_max_seconds = 0.3\n"
COUNT = 6


async def redrive(bridge: Bridge, *words: object, **environment: object) -> Finished:
    return await penstock({**bridge.environment(), **{k: str(v) for k, v in environment.items()}}, "redrive", *words)


async def refused(bridge: Bridge) -> None:
    """Requests of a model that is not configured, and one message that will never be a request."""
    bridge.lanes.write_text(f'models = ["other"]\n{NARROW}')
    async with bridge.service(intake_linger_seconds=0.2):
        lines = [chat(f"request-{number}", model="later") for number in range(COUNT)]
        await bridge.produce([*lines, b"no json"], headers=[("x-mark", b"kept"), ("tenant", b"north")], partition=0)
        await bridge.dead_letters(COUNT + 1)
    bridge.lanes.write_text(NARROW)


async def test_what_is_meant_is_sent_once_and_keeps_its_origin(bridge: Bridge) -> None:
    await refused(bridge)
    unsaid = await redrive(bridge)
    assert unsaid.code == 2
    assert "say which" in unsaid.err
    assert "is no code" in (await redrive(bridge, "--reason", "nonsense")).err
    counted = await redrive(bridge, "--reason", "model_not_allowed", "--dry-run", "--output", "json")
    assert counted.json["sent"] == COUNT
    assert (await redrive(bridge, "--all", "--until", "2020-01-01", "--output", "json")).json["sent"] == 0
    sent = await redrive(bridge, "--reason", "model_not_allowed", "--since", "2020-01-01")
    assert sent.out == f"{COUNT} dead letters were sent again\n  model_not_allowed: {COUNT}\n"
    again = await redrive(bridge, "--all", "--output", "json")
    assert (again.json["sent"], again.json["sent_before"], again.json["reasons"]) == (1, COUNT, {"invalid_json": 1})
    async with bridge.service(intake_linger_seconds=0.2) as service:
        results = await bridge.results(COUNT)
        letters = await bridge.dead_letters(COUNT + 2)
        audit = await service.logged("operator.redrive")
    assert Counter(each.custom_id for each in results) == Counter(f"request-{number}" for number in range(COUNT))
    assert {each.header("x-mark") for each in results} == {"kept"}
    assert {each.header("penstock-redriven-from") for each in results} == {
        f"{bridge.requests}/0/{offset}" for offset in range(COUNT)
    }
    assert letters[-1].header("penstock-redriven-from") == f"{bridge.requests}/0/{COUNT}"
    assert audit["dead_letters"] == COUNT
    await bridge.check()


@pytest.mark.parametrize("place", ["publisher.send=after", "publisher.commit=before", "publisher.commit=after"])
async def test_a_redrive_that_is_killed_is_followed_by_one_that_sends_only_what_is_missing(
    bridge: Bridge, place: str
) -> None:
    await refused(bridge)
    killed = await redrive(bridge, "--reason", "model_not_allowed", PENSTOCK_FAILPOINTS=f"{place}:kill")
    assert killed.code == -9
    followed = await redrive(bridge, "--reason", "model_not_allowed", "--output", "json")
    committed = place == "publisher.commit=after"
    assert (followed.json["sent"], followed.json["sent_before"]) == ((0, COUNT) if committed else (COUNT, 0))
    async with bridge.service(intake_linger_seconds=0.2):
        results = await bridge.results(COUNT)
        await bridge.check()
    assert Counter(each.custom_id for each in results) == Counter(f"request-{number}" for number in range(COUNT))
