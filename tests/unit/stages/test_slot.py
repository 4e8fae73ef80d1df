import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from penstock.core.batch import BatchState
from penstock.core.decision import Reconciliation
from penstock.core.errors import ProviderDenied, ProviderUnavailable, UnknownFormat
from penstock.core.lane import LaneKey
from penstock.stages.acquaintance import Acquaintance
from penstock.stages.downloader import Downloader, Spooled
from penstock.stages.slot import SLICE, SLICE_BYTES, SlotSession, slice_end
from penstock.stages.transaction_size import TransactionSize


class Session(SlotSession):
    """A session whose batch fails where a test wants it to."""

    def __init__(
        self,
        *,
        loading: Exception | None = None,
        reading: Exception | None = None,
        publishing: Exception | None = None,
    ) -> None:
        tools: Any = SimpleNamespace(
            store=None,
            patience={},
            refused_sizes=Counter(),
            size=TransactionSize(1 << 20, 1.0),
            collector=SimpleNamespace(store=SimpleNamespace(load=self.load, read_decision=self.read_decision)),
        )
        super().__init__(0, Any, Any, "test", tools)  # type: ignore[arg-type]  # nothing of them is used
        self.loading = loading
        self.reading = reading
        self.publishing = publishing

    async def load(self, _: uuid.UUID) -> Any:
        if self.loading:
            raise self.loading
        return SimpleNamespace(state=BatchState.DECIDED)

    async def read_decision(self, _: uuid.UUID) -> None:
        if self.reading:
            raise self.reading

    @asynccontextmanager
    async def files(self, _: Any) -> AsyncIterator[None]:
        yield None

    async def publish(self, *_: Any) -> None:
        if self.publishing:
            raise self.publishing


BATCH = uuid.uuid4()


@pytest.mark.parametrize("error", [TimeoutError("no answer"), OSError("Multiple exceptions"), KeyError("topic")])
async def test_any_failure_while_publishing_ends_the_session_and_the_batch_waits(error: Exception) -> None:
    session = Session(publishing=error)
    with pytest.raises(type(error)):
        await session.work(BATCH)
    assert not session.due(BATCH)


async def test_a_batch_whose_files_cannot_be_had_now_waits_and_the_slot_goes_on() -> None:
    session = Session(loading=ProviderUnavailable("files.content", "cut"))
    assert await session.work(BATCH) is False
    assert not session.due(BATCH)


async def test_a_batch_whose_decision_is_of_another_format_waits_and_the_slot_goes_on() -> None:
    session = Session(reading=UnknownFormat("decision", "format 2"))
    assert await session.work(BATCH) is False
    assert not session.due(BATCH)


async def test_a_finished_batch_is_forgotten() -> None:
    session = Session()
    assert await session.work(BATCH) is True
    assert session.tools.patience == {}


class Busy(Session):
    """A session to which batches come as long as it works."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches
        self.producer: Any = SimpleNamespace(start=self.nothing, stop=self.nothing)
        self.store: Any = SimpleNamespace(batches=self.batches)
        self.tools.collector.store.database_clock = self.clock  # type: ignore[method-assign]

    async def nothing(self) -> None: ...

    read_ledger = clear_keys = nothing

    async def clock(self) -> float:
        return 0.0

    async def batches(self, *_: object) -> list[tuple[uuid.UUID, None]]:
        self.left -= 1
        return [(uuid.uuid4(), None)] if self.left >= 0 else []


async def test_a_session_that_never_runs_out_of_batches_makes_progress_with_each() -> None:
    session, left = Busy(3), []
    assert await session.run(asyncio.Event(), lambda: left.append(session.left)) == 3
    assert left == [2, 1, 0]


def test_a_slice_is_bounded_in_requests_and_bytes_and_never_empty() -> None:
    spooled = Spooled([], [], Reconciliation({}, 2000))
    assert slice_end(0, 2000, None, SLICE_BYTES) == slice_end(0, 2000, spooled, SLICE_BYTES) == SLICE
    assert slice_end(1900, 2000, spooled, SLICE_BYTES) == 2000
    for position in (0, 1, 2):
        spooled.lines.lengths[position] = SLICE_BYTES
    assert slice_end(0, 2000, spooled, SLICE_BYTES) == 1
    assert slice_end(0, 2000, spooled, 0) == 1


async def test_files_that_cannot_be_had_are_counted_whatever_else_is_said_of_the_provider() -> None:
    @asynccontextmanager
    async def failing(*_: object) -> AsyncIterator[None]:
        raise ProviderUnavailable("files.content", "no answer")
        yield

    def counted() -> float:
        return REGISTRY.get_sample_value("penstock_downloads_failed_total", {"account": "paid"}) or 0.0

    session = Session()
    session.tools.downloader = cast("Any", SimpleNamespace(spooled=failing))
    key = LaneKey("paid", "/v1/responses", "gpt-4o", "24h")
    fields = {"verdict": None, "abandoned": False, "provider_status": "completed", "output_file_id": "file_1"}
    batch = SimpleNamespace(key=key, **fields)
    before = counted()
    with pytest.raises(ProviderUnavailable):
        async with SlotSession.files(session, cast("Any", batch)):
            raise AssertionError("there are no files")
    assert counted() == before + 1


async def test_refused_downloads_are_shown_to_operators_until_one_is_taken() -> None:
    noted: list[tuple[str, str]] = []

    class Accounts(Acquaintance):
        async def denied(self, _: str, stage: str, error: ProviderDenied, __: float) -> None:
            noted.append((stage, error.code))

        async def allowed(self, _: str, stage: str) -> None:
            noted.append((stage, ""))

    class Refused(Downloader):
        refused = True

        @asynccontextmanager
        async def spooled(self, *_: object) -> AsyncIterator[Spooled]:
            if self.refused:
                raise ProviderDenied("files.content", "Not paid.", code="billing_not_active")
            yield Spooled([], [], Reconciliation({}, 0))

    downloader = Refused(Any, Any, Accounts(Any, Any), 1.0)  # type: ignore[arg-type]  # nothing of them is used
    session = Session()
    session.tools.downloader = downloader
    halted = {"account": "refused", "stage": "publisher"}
    batch: Any = SimpleNamespace(
        key=LaneKey("refused", "/v1/embeddings", "m", "24h"),
        verdict=None,
        abandoned=False,
        provider_status="completed",
        output_file_id="file",
    )
    with pytest.raises(ProviderDenied):
        async with SlotSession.files(session, batch):
            pass
    assert noted == [("publisher", "billing_not_active")]
    assert REGISTRY.get_sample_value("penstock_account_halted", halted) == 1
    downloader.refused = False
    async with SlotSession.files(session, batch):
        pass
    assert noted[1:] == [("publisher", "")]
    assert REGISTRY.get_sample_value("penstock_account_halted", halted) == 0
