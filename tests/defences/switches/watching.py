"""Polls, downloads and decisions."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec

import penstock.core.window
import penstock.postgres.poller_store
import penstock.provider.answer
import penstock.stages.collector
import penstock.stages.poller
from penstock.core.batch import ProviderBatch, is_terminal
from penstock.core.chunk import NewChunk
from penstock.core.decision import Decision, Outcome, Reconciliation, decide
from penstock.core.errors import ProviderMissing
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.poller_store import Watched
from penstock.provider.client import ProviderClient
from penstock.stages.acquaintance import Acquaintance
from penstock.stages.collector import Collector
from penstock.stages.downloader import Downloader
from penstock.stages.lease import Lease
from penstock.stages.poller import Poller
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
    """Any download is believed, however long it is and whatever lines it has (either alone suffices)."""
    patch.setattr(Downloader, "doubt", lambda *_: None)
    patch.setattr(Downloader, "believe", lambda *_: None)


@defence("W2", 13)
def second_opinion(patch: Patch) -> None:
    """A file of another size than told is believed at once when its transport proves it whole."""
    patch.setattr(Downloader, "agrees", lambda _, body: body.proven)


@defence("W2")
def size_not_needed(patch: Patch) -> None:
    """A file is not downloaded while nobody tells its size."""

    async def told(_: Downloader, client: ProviderClient, __: str, file_id: str) -> int:
        return await client.file_bytes(file_id)

    patch.setattr(Downloader, "told_bytes", told)


@defence("W4")
def late_file_ids(patch: Patch) -> None:
    """A file that an ended batch does not name at once has no lines."""

    async def believed(*_: object) -> None:
        return

    patch.setattr(Downloader, "await_more", believed)


@defence("W2")
def nameless_lines(patch: Patch) -> None:
    """Lines that name no request say nothing of those that are missing."""
    patch.setattr(Reconciliation, "judged", lambda self: bytes(self.kinds))


@defence("W2")
def unreadable_bound(patch: Patch) -> None:
    """A request whose result nobody can read is sent again without end."""
    patch.setattr(Collector, "unreadable_too_often", lambda *_: frozenset())


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


@defence("W1")
def known_key(patch: Patch) -> None:
    """Whatever key there is, batches are created with it, and what it does not know is lost."""

    async def known(*_: object) -> bool:
        return True

    patch.setattr(Acquaintance, "knows", known)


@defence("W1")
def missing_is_no_status(patch: Patch) -> None:
    """A batch that the provider answers 404 for is taken as cancelled."""
    retrieve = ProviderClient.retrieve

    async def told(self: ProviderClient, provider_batch_id: str) -> ProviderBatch:
        try:
            return await retrieve(self, provider_batch_id)
        except ProviderMissing:
            return ProviderBatch(provider_batch_id, "cancelled", None, None, None, None, (), {}, 0, 0, 0)

    patch.setattr(ProviderClient, "retrieve", told)


@defence("W1")
def failures_apart(patch: Patch) -> None:
    """One batch that cannot be retrieved ends the round."""

    class Never(Exception):
        """Is never raised."""

    for name in ("ProviderUnavailable", "ProviderRefused"):
        patch.setattr(penstock.stages.poller, name, Never)


@defence("W1")
def stale_list(patch: Patch) -> None:
    """A list that shows a batch as it was is believed for ever."""
    patch.setattr(Poller, "unmoved", lambda *_: [])


@defence("W1")
def lost_batches(patch: Patch) -> None:
    """A batch whose retrieve fails in another way than by 404 is open for as long as it does."""
    lost = Poller.lost
    patch.setattr(
        Poller, "lost", lambda self, watched, *, gone, **given: gone and lost(self, watched, gone=gone, **given)
    )


@defence("W3")
def given_up_bound(patch: Patch) -> None:
    """A batch that was given up is watched until it ends, and keeps its tokens until then."""

    async def never(*_: object) -> None:
        return

    patch.setattr(Poller, "forget", never)


@defence("W3")
def given_up_teaches(patch: Patch) -> None:
    """A refusal for tokens teaches, whatever a batch that was given up still holds."""
    reword(patch, "given_up_open", ("SELECT EXISTS (", "SELECT false AND EXISTS ("))


@defence("W1")
def fresh_retrieve(patch: Patch) -> None:
    """A batch is held to be stuck by the status that was last recorded of it."""
    end = Poller.end

    async def by_record(self: Poller, lease: Lease, watched: Watched, **options: bool) -> None:
        with patch.context() as stale:
            recorded = ProviderBatch(watched.provider_batch_id, watched.status, None, None, None, None, (), {}, 0, 0, 0)
            stale.setattr(self.client, "retrieve", partial(answer, recorded))
            await end(self, lease, watched, **options)

    async def answer(recorded: ProviderBatch, _: str) -> ProviderBatch:
        return recorded

    patch.setattr(Poller, "end", by_record)


@defence("W1")
def null_expiry(patch: Patch) -> None:
    """A batch that tells no expiry never is overdue."""
    patch.setattr(penstock.postgres.poller_store, "window_seconds", lambda _: float("inf"))


@defence("W1")
def lane_window(patch: Patch) -> None:
    """A batch that tells no expiry has a day, whatever its lane's completion window is."""
    patch.setattr(penstock.postgres.poller_store, "window_seconds", lambda _: 86_400.0)


@defence("W1")
def plain_statuses(patch: Patch) -> None:
    """A status is known in the spelling of one provider alone."""
    patch.setattr(penstock.provider.answer, "plain_status", lambda text: text)


@defence("W3")
def watched_to_its_end(patch: Patch) -> None:
    """A batch that was given up is watched no more."""
    reword(patch, "abandon", ("SET state = 'ended',", "SET state = 'ended', provider_open = false,"))


@defence("W4")
def null_files(patch: Patch) -> None:
    """What is missing once counts as missing for good."""

    async def gone(*_: object) -> bool:
        return True

    patch.setattr(Downloader, "is_gone", gone)


@defence("W5")
def unexecuted_attempt(patch: Patch) -> None:
    """What was never executed counts as a failed attempt."""

    def failed(*given: Any) -> Decision:
        decision = decide(*given)
        raised = bytes(Outcome.RETRY if each == Outcome.RESEND else each for each in decision.outcomes)
        return msgspec.structs.replace(decision, outcomes=raised)

    patch.setattr(penstock.stages.collector, "decide", failed)


@defence("W5")
def probes(patch: Patch) -> None:
    """A lane that the provider fails goes on with windows of any size."""

    async def never(*_: object, **__: object) -> None:
        return

    patch.setattr(CollectorStore, "set_probing", never)


@defence("W5")
def probe_sample(patch: Patch) -> None:
    """However few first attempts a batch has, they say whether the provider is ill."""
    patch.setattr(penstock.core.window, "PROBE_SAMPLE", 0)


@defence("W5")
def probe_bound(patch: Patch) -> None:
    """A lane waits for its probe however long that takes."""
    bound = " AND b.sealed_at > clock_timestamp() - make_interval(secs => $2)\n    ) AS probe_running"
    reword(patch, "windows", (bound, "\n    ) AS probe_running"))
