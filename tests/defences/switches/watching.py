"""Polls, downloads and decisions."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import penstock.stages.poller
from penstock.core.batch import is_terminal
from penstock.core.chunk import NewChunk
from penstock.core.decision import Decision, Reconciliation
from penstock.core.errors import ProviderUnavailable
from penstock.stages.collector import Collector
from penstock.stages.lease import Lease
from tests.defences.switches.registry import Patch, defence, reword


@defence("way of the data, 4", 11)
def forward_only(patch: Patch) -> None:
    """A status is recorded whatever stood there before."""
    patch.setattr(penstock.stages.poller, "moves_forward", lambda known, seen: seen != known or is_terminal(seen))
    reword(patch, "record_status", ("provider_status = $2 AND provider_open", "$2::text <> ''"))


@defence("W2", 12)
def reconciliation(patch: Patch) -> None:
    """What the provider's files do not speak of is taken as answered."""

    async def nothing(_: Collector, *__: object) -> AsyncIterator[tuple[NewChunk, float]]:
        never: tuple[tuple[NewChunk, float], ...] = ()
        for chunk in never:
            yield chunk

    patch.setattr(Collector, "another_try", nothing)


@defence("W2", 13)
def whole_download(patch: Patch) -> None:
    """Any download is believed, however long it is."""
    download = Collector.download

    async def believe(self: Collector, file_id: str, path: Any, size_bytes: int, lease: Lease) -> None:
        with suppress(ProviderUnavailable):
            await download(self, file_id, path, size_bytes, lease)

    patch.setattr(Collector, "download", believe)


@defence("way of the data, 5", 13)
def lines_by_id(patch: Patch) -> None:
    """The nth line of a file is taken as the answer to the nth request."""

    def next_free(self: Reconciliation, _: str) -> int | None:
        return next((position for position, kind in enumerate(self.kinds) if not kind), None)

    patch.setattr(Reconciliation, "position", next_free)


@defence("W4", 13)
def second_download(patch: Patch) -> None:
    """A second download is not held against the decision that stands on the first."""

    async def as_it_is(_: Collector, __: Lease, ___: Any, decision: Decision, *_____: object) -> Decision:
        return decision

    patch.setattr(Collector, "revise", as_it_is)
