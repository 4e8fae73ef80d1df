# ruff: noqa: ARG002 - the fakes take what the real ones take
import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from penstock.stages import publisher as module
from penstock.stages.publisher import Publisher


class FakeStore:
    """Slots with work."""

    def __init__(self, *slots: int) -> None:
        self.slots = slots

    async def slots_with_work(self, grace_seconds: float) -> tuple[int, ...]:
        return self.slots


class FakeKeeper:
    """Every lease is another's."""

    async def acquire(self, name: str) -> None:
        return None


async def trusts() -> bool:
    return True


@pytest.mark.parametrize("slots", [(), (3,)], ids=["nothing-is-left", "another-has-it"])
async def test_a_slot_that_halted_here_and_is_not_ours_is_halted_here_no_longer(
    slots: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    tools: Any = SimpleNamespace(
        store=FakeStore(*slots), settings=SimpleNamespace(slots_held_max=4), ledger_grace_seconds=1.0
    )
    keeper: Any = FakeKeeper()
    census: Any = SimpleNamespace(trusts=trusts)
    publisher = Publisher(asyncio.Event(), keeper, census, tools, deployment="test", replica=uuid.uuid4())
    publisher.halted = {3}
    await publisher.round()
    assert REGISTRY.get_sample_value("penstock_slots_halted") == 0
