import asyncio
from types import SimpleNamespace
from typing import Any

from penstock.core.lane import LaneKey, Lanes
from penstock.core.window import Size
from penstock.postgres.window_store import OpenWindow
from penstock.stages.sealer import Sealer
from penstock.stages.stage import PART_FAILED_SECONDS

KEYS = [LaneKey("account", "/v1/responses", model, "24h") for model in ("bad", "good")]
WINDOWS = [
    OpenWindow(number, key, Size(1, 1, 1, 1), 0.0, 1, True, None, 1.0, False, False) for number, key in enumerate(KEYS)
]


class FakeStore:
    """Two lanes, each with something to seal and something overdue; those of one cannot be stored."""

    def __init__(self) -> None:
        self.expired: list[int] = []

    async def overdue_lanes(self) -> dict[int, LaneKey]:
        return dict(enumerate(KEYS))

    async def expire(self, _: object, birth: Any, __: object) -> int:
        if birth.lane_id == 0:
            raise KeyError("bad")
        self.expired.append(birth.lane_id)
        return 0

    async def windows(self) -> list[OpenWindow]:
        return WINDOWS

    async def ahead(self) -> dict[tuple[str, str], Any]:
        return {}


class Sealing(Sealer):
    """It holds the lease, and measures nothing."""

    sealed: list[LaneKey]

    async def stand(self) -> None:
        self.lease = SimpleNamespace(progress=lambda: None)  # type: ignore[assignment]

    async def measure_backlog(self) -> None: ...

    async def measure_spending(self) -> None: ...

    async def seal(self, _: object, window: OpenWindow, *__: object) -> None:
        if window.key == KEYS[0]:
            raise KeyError("bad")
        self.sealed.append(window.key)


async def test_a_lane_that_cannot_be_sealed_holds_up_no_other() -> None:
    store: Any = FakeStore()
    nothing: Any = None
    sealer = Sealing(
        asyncio.Event(),
        store,
        nothing,
        nothing,
        Lanes(),
        slots=1,
        creates_per_hour={"account": 10},
        usd_per_day={},
        backlog_limits={},
        lane_label=str,
    )
    sealer.sealed = []
    assert await sealer.guarded_round() == PART_FAILED_SECONDS, "it is not told of twice a second"
    assert (sealer.sealed, store.expired) == ([KEYS[1]], [1])
