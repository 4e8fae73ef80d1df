"""The census: who is alive with which limits, and, by lease, the cluster-wide gauges that one replica reads for all."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from penstock.core.batch import PROVIDER_RANK
from penstock.core.lane import LaneKey, Lanes
from penstock.postgres.census_store import CensusStore, Gauges, Heartbeat, Wait, without_account
from penstock.postgres.operator_store import Pausable
from penstock.settings import ProviderSettings
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.stage import TRANSIENT, Stage
from penstock.telemetry import metrics

log = structlog.get_logger()

ROUND_SECONDS = 5.0
GAUGES_EVERY = 3
HOLDERS_GAUGES = (
    metrics.queue_requests,
    metrics.queue_bytes,
    metrics.queue_oldest_age,
    metrics.queue_deadline,
    metrics.queue_unstored,
    metrics.quota_wait,
    metrics.batches,
    metrics.provider_batches,
    metrics.enqueued_tokens,
    metrics.enqueued_tokens_limit,
    metrics.in_doubt_creates,
    metrics.in_doubt_age,
    metrics.actionable_work,
    metrics.creates_used,
    metrics.creates_limit,
    metrics.pauses,
    metrics.pause_age,
    metrics.lanes_halted,
    metrics.parked_batches,
    metrics.files_life,
    metrics.validating_late,
    metrics.uncollected_age,
    metrics.account_unknown_requests,
    metrics.postgres_size,
    metrics.postgres_size_limit,
)
"""What the lease's holder shows for all. Who holds it no longer shows them no longer: nobody corrects them there."""
LOOK_SECONDS = 30.0
"""While Postgres lacks what the ledger proves, it is looked at again after this."""


class Census(Stage):
    """Heartbeats of this replica, and gauges (at most every 15 seconds, never per scrape).

    `newest` says whether no live replica has a newer generation of limits: older ones leave sealing and reserving to
    those that have. `trusts` says that Postgres has all that the ledger proves (P6): while it lost data, nothing is
    sealed, submitted or published, by whatever slot. Others heed the generation of one that seals or grants by itself,
    no other's.
    """

    name = "census"

    def __init__(
        self,
        drain: asyncio.Event,
        store: CensusStore,
        keeper: LeaseKeeper,
        *,
        generation: int,
        lanes: Lanes,
        accounts: Mapping[str, ProviderSettings],
        database_bytes_max: int,
        look_up_seconds: float,
        validating_seconds_max: float = 900.0,
        lane_label: Callable[[LaneKey], str],
        data_lost: Callable[[], Awaitable[str | None]] | None = None,
        heeded: bool = True,
    ) -> None:
        super().__init__(drain)
        self.store = store
        self.keeper = keeper
        self.generation = generation
        self.heeded = heeded
        self.lanes = lanes
        self.lanes_sha256 = hashlib.sha256(repr(lanes).encode()).digest()
        self.accounts = accounts
        self.database_bytes_max = database_bytes_max
        self.look_up_seconds = look_up_seconds
        self.validating_seconds_max = validating_seconds_max
        self.lane_label = lane_label
        self.unknown_accounts: dict[str, int] = {}
        self.data_lost = data_lost
        self.newest = True
        self.trusted = data_lost is None
        self.connections = 0
        self.beating = asyncio.Lock()
        self.looks_at = 0.0
        self.heartbeat: Heartbeat | None = None
        self.lease: Lease | None = None
        self.rounds = 0

    async def round(self) -> float:
        """One heartbeat; every third round, if the lease is ours, the gauges."""
        if self.lease is None or not self.lease.held:  # before anything here can fail
            metrics.forget(*HOLDERS_GAUGES)
        async with self.beating:
            beat = await self.beat()
        if self.newest != (self.generation >= beat.newest):
            self.newest = self.generation >= beat.newest
            log.info("generation.changed", mine=self.generation, newest=beat.newest)
        metrics.replica_generations.set(beat.variants)
        self.lease = await self.keeper.standing("census", self.lease)
        if self.lease is not None:
            await self.log_audit()
            if self.rounds % GAUGES_EVERY == 0:
                await self.gauge()
        self.rounds += 1
        return ROUND_SECONDS

    async def close(self) -> None:
        """Be gone at once, so that replicas with an older lanes file seal and grant after a roll-back."""
        with contextlib.suppress(*TRANSIENT):
            await self.store.leave(self.keeper.store.holder)

    async def log_audit(self) -> None:
        """Write what operators did to the log, at least once."""
        rows = await self.store.audit()
        for row in rows:
            event = f"operator.{row['action']}"
            log.info(event, target=row["target"], at=row["done_at"].isoformat(), **row["detail"])
        if rows:
            await self.store.forget_audit([row["id"] for row in rows])

    async def trusts(self) -> bool:
        """Whether Postgres lost nothing that the ledger proves; asked before anything that cannot be taken back.

        Over new connections the heartbeat is looked at again: a database that went back has lost the last one.
        """
        if self.data_lost is not None and self.connections != self.store.database.connections:
            async with self.beating:
                await self.beat()
        return self.trusted

    async def beat(self) -> Heartbeat:
        """A heartbeat; when the one before it is lost, the database is held against the ledger."""
        connections = self.store.database.connections
        written = self.generation if self.heeded else 0
        beat = await self.store.heartbeat(self.keeper.store.holder, written, self.lanes_sha256)
        if beat.before != (self.heartbeat.now if self.heartbeat else None):
            self.trusted, self.looks_at = self.data_lost is None, 0.0
        self.heartbeat = beat
        await self.hold_against_ledger()
        self.connections = connections
        return beat

    async def hold_against_ledger(self) -> None:
        """See whether Postgres lost data, until it did not."""
        if self.trusted or self.data_lost is None or time.monotonic() < self.looks_at:
            return
        reason = await self.data_lost()
        self.trusted, self.looks_at = reason is None, time.monotonic() + LOOK_SECONDS
        metrics.data_lost.set(reason is not None)
        if reason is not None:
            log.error("data.lost", reason=reason, mend="penstock resume restored")

    async def gauge(self) -> None:
        """Read the cluster's state once, for every gauge of it."""
        report = await self.store.gauges(self.accounts, self.look_up_seconds, self.validating_seconds_max)
        left_alone(report.unknown_chunks)
        metrics.forget(*HOLDERS_GAUGES)
        self.left_behind(report.waits)
        self.show_waits(report)
        self.show_tokens(report)
        self.show_accounts(report)
        self.show_work(report)
        show_counts(report)
        metrics.postgres_size_limit.set(self.database_bytes_max)

    def show_waits(self, report: Gauges) -> None:
        """What waits where, by lane; several lanes may have one label."""
        for wait in report.waits:
            label = self.lane_label(wait.key)
            metrics.queue_requests.labels(label, wait.stage).inc(wait.requests)
            metrics.queue_bytes.labels(label, wait.stage).inc(wait.bytes)
        for label, age in most((self.lane_label(each.key), each.oldest_age_seconds) for each in report.waits).items():
            metrics.queue_oldest_age.labels(label).set(age)
        for label, age in most((self.lane_label(each.key), each.unstored_seconds) for each in report.waits).items():
            metrics.queue_unstored.labels(label).set(age)
        for label, ratio in most((self.lane_label(each.key), each.deadline_ratio) for each in report.waits).items():
            metrics.queue_deadline.labels(label).set(ratio)
        for label, age in most((self.lane_label(key), age) for key, age in report.quota_waits.items()).items():
            metrics.quota_wait.labels(label).set(age)

    def show_tokens(self, report: Gauges) -> None:
        """Tokens reserved at the provider, and their limits where they are known."""
        for key, tokens in report.enqueued.items():
            metrics.enqueued_tokens.labels(self.lane_label(key)).inc(tokens)
        for key in report.enqueued:
            limit = self.lanes.policy(key).enqueued_tokens_max or report.limits.get(key)
            if limit is not None:
                metrics.enqueued_tokens_limit.labels(self.lane_label(key)).set(limit)

    def show_work(self, report: Gauges) -> None:
        """What could be done now, of those accounts that are configured; dead letters are of none."""
        for account in ("", *self.accounts):
            for stage in ("submitter", "publisher"):
                metrics.actionable_work.labels(stage, account).set(report.actionable.get((account, stage), 0))

    def show_accounts(self, report: Gauges) -> None:
        """Creates against their limit, and how long output files that are still needed will be there."""
        for account, provider in self.accounts.items():
            metrics.creates_used.labels(account).set(report.creates[account])
            metrics.creates_limit.labels(account).set(provider.creates_per_hour)
            life = 1.0 - report.file_ages.get(account, 0.0) / provider.file_expires_seconds
            metrics.files_life.labels(account).set(max(0.0, life))
            metrics.validating_late.labels(account).set(report.validating_late.get(account, 0))
            metrics.uncollected_age.labels(account).set(report.uncollected_ages.get(account, 0.0))

    def left_behind(self, waits: Iterable[Wait]) -> None:
        """Report, once each time, what waits for accounts that are configured no more; older replicas know fewer."""
        unknown = without_account(waits, self.accounts) if self.newest else {}
        for account, requests in unknown.items():
            metrics.account_unknown_requests.labels(account).set(requests)
            if account not in self.unknown_accounts:
                mend = "put it back into the lanes file, with a key of the same project, until nothing waits for it"
                log.error("account.unknown", account=account, requests=requests, mend=mend)
        self.unknown_accounts = unknown


def show_counts(report: Gauges) -> None:
    """The gauges that know no lane and no account."""
    for state, count in report.batches.items():
        metrics.batches.labels(state).set(count)
    for status, count in report.provider_batches.items():
        metrics.provider_batches.labels(status if status in PROVIDER_RANK else "other").inc(count)
    metrics.in_doubt_creates.set(report.in_doubt)
    metrics.in_doubt_age.set(report.in_doubt_age_seconds)
    for kind in Pausable:
        count, age = report.pauses.get(kind, (0, 0.0))
        metrics.pauses.labels(kind).set(count)
        metrics.pause_age.labels(kind).set(age)
    metrics.lanes_halted.set(report.stopped.lanes_halted)
    metrics.parked_batches.set(report.stopped.batches_parked)
    metrics.postgres_size.set(report.database_bytes)


def most(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The highest value of each label."""
    found: dict[str, float] = {}
    for label, value in values:
        found[label] = max(found.get(label, 0.0), value)
    return found


def left_alone(chunks: int) -> None:
    """Report unsealed chunks in a format that this version does not know: a newer replica, if any, seals them."""
    if chunks:
        metrics.formats_unknown.labels("chunk").inc()
        log.warning("format.unknown", kind="chunk", chunks=chunks)
