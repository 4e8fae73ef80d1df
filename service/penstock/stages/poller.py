"""The poller: one replica per account, by lease, watches its batches; statuses only move forward."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from penstock.core.batch import PROVIDER_RANK, ProviderBatch, is_terminal, moves_forward, rank
from penstock.core.errors import ProviderDenied, ProviderError, ProviderMissing, ProviderRefused, ProviderUnavailable
from penstock.core.lane import LaneKey
from penstock.core.price import bill
from penstock.core.refusal import account_fix
from penstock.postgres.poller_store import PollerStore, Sighting, Watched
from penstock.provider.client import ProviderClient
from penstock.settings import PollerSettings
from penstock.stages.acquaintance import GRACE_SECONDS, Acquaintance
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.stage import Stage
from penstock.telemetry import metrics

log = structlog.get_logger()

STANDBY_SHARE = 1 / 6
"""Another replica's lease is asked for again after this share of its time."""
CALLS_PER_ROUND = 60
FAILURES_PER_ROUND = 3
"""One batch that cannot be retrieved keeps no other from being seen; more of them are an outage."""
AGE_SHARE = 1 / 20
"""A round comes after this share of the youngest batch's age: new batches are watched closely, old ones rarely."""
UNMOVED_PER_ROUND = 10
"""Batches whose status does not move in the list are retrieved by themselves, so many in a round."""
UNKNOWN_KEY = ProviderDenied(
    "batches.list",
    "the key knows none of our batches: set the key of the project that made them",
    code="batches_unknown",
)
HINT_SECONDS = 1.0
"""Hints of webhooks are asked for this often; the webhook may have come to any replica."""
CLOCKS_APART = timedelta(minutes=10)


class Poller(Stage):
    """Takes the cheaper of paging back to the oldest open batch and retrieving each straggler (W1)."""

    name = "poller"

    def __init__(
        self,
        drain: asyncio.Event,
        settings: PollerSettings,
        account: str,
        store: PollerStore,
        client: ProviderClient,
        acquaintance: Acquaintance,
        keeper: LeaseKeeper,
        lane_label: Callable[[LaneKey], str],
        *,
        hints: bool = False,
    ) -> None:
        super().__init__(drain)
        self.settings = settings
        self.account = account
        self.store = store
        self.client = client
        self.acquaintance = acquaintance
        self.keeper = keeper
        self.lane_label = lane_label
        self.hints = hints
        self.due_at = 0.0
        self.lease: Lease | None = None
        self.unknown_statuses: set[str] = set()
        self.asked_at: dict[str, float] = {}
        self.failing_since: dict[str, float] = {}
        """By the provider's id: since when a batch that must end cannot be retrieved."""
        self.list_stale = False
        self.told_stale = False
        self.saw_none = False
        self.halted = False
        self.halt_noted = True
        """Postgres may name a halt: this replica's, or one of the holder before."""

    async def round(self) -> float:
        """Watch when it is time; until then follow the hints of webhooks, if there are any."""
        self.lease = await self.keeper.standing(f"poller/{self.account}", self.lease)
        if self.lease is None:
            self.due_at = 0.0
            self.halt_noted = True
            self.show_halted(halted=False)  # what it is now, the lease's holder says
            return self.keeper.store.seconds * STANDBY_SHARE
        if self.hints and time.monotonic() < self.due_at:
            await self.follow_hints(self.lease)
        else:
            self.due_at = await self.watch(self.lease) + time.monotonic()
        pause = max(0.0, self.due_at - time.monotonic())
        return min(pause, HINT_SECONDS) if self.hints else pause

    async def follow_hints(self, lease: Lease) -> None:
        """Look at the batches that webhooks hint at; what fails here is looked at with all others, next."""
        hinted = await self.store.take_hints(self.account)
        if hinted:
            due_at, self.due_at = self.due_at, 0.0
            watched = [each for each in await self.store.watched(self.account) if each.provider_batch_id in hinted]
            if watched:
                seen = await self.look(lease, watched)
                await self.record(lease, watched, seen)
                await self.end_what_must(lease, watched, seen)
            self.due_at = due_at

    async def watch(self, lease: Lease) -> float:
        """See or retrieve every open batch once; returns the seconds until the next time."""
        watched = await self.store.watched(self.account)
        if not watched:
            await self.note_halt(None)
            return self.settings.interval_seconds
        ids = {each.provider_batch_id for each in watched}
        self.asked_at = {each: at for each, at in self.asked_at.items() if each in ids}
        self.failing_since = {each: at for each, at in self.failing_since.items() if each in ids}
        try:
            seen = await self.look(lease, watched)
        except ProviderDenied as error:
            await self.note_halt(error)
            log.error(  # noqa: TRY400 - the provider's words say it all
                "account.denied",
                account=self.account,
                error=str(error),
                fix=account_fix(error.operation, error.code),
            )
            await self.end_what_must(lease, watched, {})
            return self.settings.interval_max_seconds
        except ProviderError:
            await self.end_what_must(lease, watched, {})  # whatever fails, no batch is without an end
            raise
        # Rounds can miss them all by chance: a stale list, and a batch that is not found yet. Others may be known.
        twice, self.saw_none = not seen and self.saw_none, not seen
        if not seen:
            self.client.renew()  # no 401 comes that would have a mended key read
        lost = twice and not await self.acquaintance.knows(self.account, afresh=True)
        await self.note_halt(UNKNOWN_KEY if lost else None)
        if lost:
            log.error("account.empty", account=self.account, batches=len(watched), fix=UNKNOWN_KEY.detail)
        await self.record(lease, watched, seen)
        await self.end_what_must(lease, watched, seen)
        youngest = min(each.age_seconds for each in watched)
        return min(max(self.settings.interval_seconds, youngest * AGE_SHARE), self.settings.interval_max_seconds)

    async def note_halt(self, error: ProviderDenied | None) -> None:
        """Say so when the provider refuses the account, to other replicas and operators as well; None: it does not."""
        self.show_halted(halted=error is not None)
        if error is not None:
            self.halt_noted = True
            await self.acquaintance.denied(self.account, self.name, error, self.settings.interval_max_seconds)
        elif self.halt_noted:
            await self.acquaintance.allowed(self.account, self.name)
            self.halt_noted = False

    def show_halted(self, *, halted: bool) -> None:
        """Say so when the account halts, and when what was seen here says so no longer."""
        if halted or self.halted:
            metrics.account_halted.labels(self.account, self.name).set(halted)
        self.halted = halted

    async def look(self, lease: Lease, watched: Sequence[Watched]) -> dict[str, ProviderBatch]:
        """What the provider says of the watched batches, by its id; absence and 404 are no status."""
        seen: dict[str, ProviderBatch] = {}
        failures: list[ProviderError] = []
        if len(watched) > 1:
            try:
                await self.page_back(lease, watched, seen)
            except (ProviderUnavailable, ProviderRefused, ProviderMissing) as error:
                failures.append(error)
                log.warning("batches.unlisted", account=self.account, error=str(error))
        # Those asked for longest ago come first: neither many stragglers nor failures starve any.
        unseen = [each.provider_batch_id for each in watched if each.provider_batch_id not in seen]
        unseen += self.unmoved(watched, seen)
        unseen.sort(key=lambda each: self.asked_at.get(each, 0.0))
        for provider_batch_id in unseen[:CALLS_PER_ROUND]:
            self.asked_at[provider_batch_id] = time.monotonic()
            try:
                fresh = await self.client.retrieve(provider_batch_id)
                if provider_batch_id in seen and rank(fresh.status) > rank(seen[provider_batch_id].status):
                    self.disagrees(seen[provider_batch_id], fresh)
                seen[provider_batch_id] = fresh
            except ProviderMissing:
                log.warning("batch.missing", provider_batch=provider_batch_id)
            except (ProviderUnavailable, ProviderRefused) as error:
                failures.append(error)
                log.warning("batch.unseen", provider_batch=provider_batch_id, error=str(error))
                if len(failures) == FAILURES_PER_ROUND:
                    break
            lease.progress()
        if failures and not seen:
            raise failures[0]
        return seen

    def unmoved(self, watched: Sequence[Watched], listed: dict[str, ProviderBatch]) -> list[str]:
        """Batches that the list shows as they were, and that were not asked for by themselves for a while.

        A list may show stale statuses for ever. One that does is asked more often, until it shows a move again.
        """
        now, found = time.monotonic(), []
        for each in watched:
            shown = listed.get(each.provider_batch_id)
            if shown is None:
                continue
            if rank(shown.status) > rank(each.status):
                self.list_stale = False
                continue
            every = self.settings.interval_max_seconds if self.list_stale else self.settings.unmoved_seconds
            every = min(every, self.settings.unmoved_seconds)
            if now - self.asked_at.setdefault(each.provider_batch_id, now) >= every:
                found.append(each.provider_batch_id)
        return sorted(found, key=lambda each: self.asked_at[each])[:UNMOVED_PER_ROUND]

    def disagrees(self, listed: ProviderBatch, fresh: ProviderBatch) -> None:
        """The list shows a batch as it was: its statuses are not to be relied on."""
        self.list_stale = True
        metrics.lists_stale.labels(self.account).inc()
        if not self.told_stale:
            self.told_stale = True
            log.warning(
                "list.stale",
                account=self.account,
                provider_batch=fresh.id,
                listed=listed.status,
                retrieved=fresh.status,
                fix="nothing: batches are retrieved one by one; tell whoever runs the provider",
            )

    async def page_back(self, lease: Lease, watched: Sequence[Watched], seen: dict[str, ProviderBatch]) -> None:
        """See the watched batches that are on the account's pages, as far back as paging is the cheaper way."""
        wanted = {each.provider_batch_id for each in watched}
        oldest = min(each.submitted_at for each in watched) - CLOCKS_APART
        after: str | None = None
        for _ in range(CALLS_PER_ROUND):
            page, after = await self.client.page(after)
            lease.progress()
            seen.update((each.id, each) for each in page if each.id in wanted)
            unseen = len(wanted) - len(seen)
            if after is None or not unseen:
                break
            times = [each.created_at for each in page if each.created_at]
            if len(times) < len(page):
                continue  # how far the page reaches back is not known
            first, last = max(times), min(times)
            pages_left = (last - oldest).total_seconds() / max((first - last).total_seconds(), 1.0)
            if unseen <= pages_left or last < oldest:
                break

    async def record(self, lease: Lease, watched: Sequence[Watched], seen: dict[str, ProviderBatch]) -> None:
        """Store the statuses that moved forward."""
        sightings = []
        for each in watched:
            found = seen.get(each.provider_batch_id)
            if found is None or not moves_forward(each.status, found.status):
                continue
            if found.status not in PROVIDER_RANK:
                self.unknown(found.status)
            priced = None
            # A batch that has results and tells no usage has no known cost: it goes on being counted by the estimate.
            known = found.input_tokens + found.output_tokens > 0 or not found.output_file_id
            if known and is_terminal(found.status):
                priced = bill(each.key.model, found.input_tokens, found.cached_tokens, found.output_tokens)
            sightings.append(Sighting(each, found, priced))
        moved = await self.store.record(lease, sightings) if sightings else set()
        for sighting in sightings:
            if sighting.watched.id in moved:
                self.progressed()
                if is_terminal(sighting.seen.status):
                    self.ended(sighting)

    def unknown(self, status: str) -> None:
        """A status that nobody told us of: not terminal yet."""
        metrics.statuses_unknown.inc()
        if status not in self.unknown_statuses:
            self.unknown_statuses.add(status)
            log.warning("status.unknown", status=status[:64])

    def ended(self, sighting: Sighting) -> None:
        """Metrics of a batch that is over at the provider."""
        seen, label = sighting.seen, self.lane_label(sighting.watched.key)
        metrics.batches_ended.labels(label, seen.status).inc()
        metrics.phase_seconds.labels("submitted").observe(sighting.watched.age_seconds)
        metrics.tokens_used.labels(label, "input").inc(seen.input_tokens)
        metrics.tokens_used.labels(label, "output").inc(seen.output_tokens)
        if sighting.watched.abandoned:
            self.paid_in_vain(sighting)
        if sighting.bill is None:
            metrics.tokens_unpriced.inc(seen.input_tokens + seen.output_tokens)
        else:
            metrics.cost_usd.labels(label).inc(float(sighting.bill.cost_usd))
            metrics.saving_usd.labels(label).inc(float(sighting.bill.saving_usd))

    def paid_in_vain(self, sighting: Sighting) -> None:
        """Count what a batch cost that was given up here: its requests went again."""
        seen, label = sighting.seen, self.lane_label(sighting.watched.key)
        metrics.tokens_in_vain.labels(label, "input").inc(seen.input_tokens)
        metrics.tokens_in_vain.labels(label, "output").inc(seen.output_tokens)
        if sighting.bill is not None:
            metrics.cost_in_vain.labels(label).inc(float(sighting.bill.cost_usd))
        log.warning(
            "batch.paid_in_vain",
            batch=str(sighting.watched.id),
            provider_batch=seen.id,
            status=seen.status,
            input_tokens=seen.input_tokens,
            output_tokens=seen.output_tokens,
        )

    async def end_what_must(self, lease: Lease, watched: Sequence[Watched], seen: dict[str, ProviderBatch]) -> None:
        """End the batches that are stuck, those that an operator has cancelled, and those that were given up."""
        failures = 0
        # Those that did not fail yet come first, then those that have failed for longest: their time comes first.
        for each in sorted(watched, key=lambda each: self.failing_since.get(each.provider_batch_id, 0.0)):
            status = seen[each.provider_batch_id].status if each.provider_batch_id in seen else each.status
            overdue = each.overdue_seconds > self.settings.stuck_grace_seconds
            if is_terminal(status) or not (each.cancel or each.abandoned or overdue):
                continue
            try:
                await self.end(lease, each, account_answers=bool(seen))
            except ProviderError as error:
                log.warning("batch.end_failed", batch=str(each.id), error=str(error))
                failures += isinstance(error, ProviderUnavailable | ProviderDenied)
                if failures == FAILURES_PER_ROUND:
                    break

    async def end(self, lease: Lease, watched: Watched, *, account_answers: bool) -> None:
        """A batch that must end: cancel it, and when that does not end it, close it here (W1, W3).

        One that cannot be retrieved is closed past the graces, too (see `lost`). One that was closed and never ends is
        watched for so long, and no longer.
        """
        lease.progress()
        if watched.abandoned_seconds is not None and watched.abandoned_seconds > self.settings.given_up_seconds:
            await self.forget(lease, watched)
            return
        try:
            fresh = await self.client.retrieve(watched.provider_batch_id)
        except ProviderError as error:
            gone = isinstance(error, ProviderMissing)
            if self.lost(watched, gone=gone, account_answers=account_answers) and (gone or not watched.abandoned):
                await self.abandon(lease, watched, gone=gone)
                return
            raise
        self.failing_since.pop(watched.provider_batch_id, None)
        lease.progress()
        if is_terminal(fresh.status):
            return  # the next round records it
        first = watched.cancelling_seconds is None
        if watched.cancelling_seconds is None:
            if not watched.cancel:
                log.error("batch.stuck", batch=str(watched.id), provider_batch=fresh.id, status=fresh.status)
            await self.store.request_cancel(lease, watched.id)  # a provider that refuses the call has no longer
        elif watched.cancelling_seconds > self.settings.cancel_grace_seconds and not watched.abandoned:
            await self.abandon(lease, watched, gone=False)
            return
        if first or not (watched.abandoned or fresh.status == "cancelling"):
            await self.client.cancel(watched.provider_batch_id)

    def lost(self, watched: Watched, *, gone: bool, account_answers: bool) -> bool:
        """Whether a batch that must end, and cannot be retrieved now, is closed here.

        That takes the grace since it had to end, and a day more when the account knows none of ours, for then the key
        may be another account's. What fails in another way than by 404 has to fail for as long as the grace, too.
        """
        now = time.monotonic()
        failing = now - self.failing_since.setdefault(watched.provider_batch_id, now)
        ending = max(watched.overdue_seconds - self.settings.stuck_grace_seconds, watched.cancel_asked_seconds or 0.0)
        grace = self.settings.cancel_grace_seconds
        due = ending > grace + (0.0 if account_answers else GRACE_SECONDS)
        return due and (gone or failing >= grace)

    async def forget(self, lease: Lease, watched: Watched) -> None:
        """Watch a batch that was given up no longer: whatever it still holds at the provider, its tokens are free."""
        if await self.store.forget(lease, watched.id):
            metrics.given_up_unended.labels(self.account).inc()
            log.error(
                "batch.unended",
                batch=str(watched.id),
                provider_batch=watched.provider_batch_id,
                status=watched.status,
                seconds=round(watched.abandoned_seconds or 0.0),
                fix="cancel it at the provider: it may still run, and be billed",
            )

    async def abandon(self, lease: Lease, watched: Watched, *, gone: bool) -> None:
        """Close a batch here, so that its requests go again; that they may be paid twice is counted."""
        if await self.store.abandon(lease, watched.id, gone=gone):
            metrics.duplicates.labels("abandoned").inc(watched.requests)
            log.error("batch.abandoned", batch=str(watched.id), requests=watched.requests, gone=gone)
