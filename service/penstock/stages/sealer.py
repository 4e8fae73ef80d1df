"""The sealer: windows are cluster-wide, so one replica at a time, by lease, seals them."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from penstock.core.filling import WINDOWS_PER_SEAL, SizesOf, seal
from penstock.core.lane import LaneKey, LanePolicy, Lanes
from penstock.core.quota import NOTHING_AHEAD, Ahead, due_ahead
from penstock.core.spending import Spending, affordable
from penstock.core.window import (
    PROBE_SECONDS_MAX,
    ChunkSummary,
    Sealed,
    SealReason,
    WindowLimits,
    creates_allowed,
    limits_of,
)
from penstock.postgres.window_store import Birth, OpenWindow, WindowStore
from penstock.stages.census import Census
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.stage import Stage
from penstock.telemetry import metrics

log = structlog.get_logger()

ROUND_SECONDS = 0.5
BACKLOG_SECONDS = 1.0
DEAD_LETTER_AGE_SECONDS = 1.0
HOLDERS_GAUGES = (
    metrics.backlog_bytes,
    metrics.backlog_limit_bytes,
    metrics.backlog_paused,
    metrics.topic_paused,
    metrics.window_age_stretched,
    metrics.windows_held,
    metrics.probes_overdue,
    metrics.spending_usd,
    metrics.spending_limit_usd,
    metrics.spending_stopped,
)
"""What the lease's holder shows for all, and nobody else."""

Due = tuple[OpenWindow, LanePolicy, WindowLimits]
"""A window that may be sealed now."""


def over_age(due: Due) -> tuple[float, int]:
    """How far a window is past its age, and how full it is."""
    window, policy, _ = due
    return window.age_seconds - policy.age_max_seconds, window.size.requests


class Sealer(Stage):
    """Seals full windows at once, and old ones as far as their account's creates allow.

    Args:
        drain: set when the service is to stop.
        store: windows.
        keeper: of this process's leases.
        census: whether other replicas have newer limits.
        lanes: limits.
        slots: of the publisher, for new batches.
        creates_per_hour: by account; windows of other accounts are left alone.
        usd_per_day: what an account may spend, where it has a limit.
        backlog_limits: bytes, by request topic.
        lane_label: a lane's name in metrics.
    """

    name = "sealer"

    def __init__(
        self,
        drain: asyncio.Event,
        store: WindowStore,
        keeper: LeaseKeeper,
        census: Census,
        lanes: Lanes,
        *,
        slots: int,
        creates_per_hour: Mapping[str, int],
        usd_per_day: Mapping[str, float],
        backlog_limits: Mapping[str, int],
        lane_label: Callable[[LaneKey], str],
    ) -> None:
        super().__init__(drain)
        self.store = store
        self.keeper = keeper
        self.census = census
        self.lanes = lanes
        self.slots = slots
        self.creates_per_hour = creates_per_hour
        self.usd_per_day = usd_per_day
        self.spending: Spending | None = None
        self.stopped: set[tuple[str, str]] = set()
        self.backlog_limits = backlog_limits
        self.lane_label = lane_label
        self.lease: Lease | None = None
        self.backlog_at = 0.0
        self.ahead: dict[tuple[str, str], dict[int, Ahead]] = {}
        self.sealed_at: dict[int, float] = {}
        self.probes_overdue: set[int] = set()
        self.sealed_by_age_at = dict.fromkeys(creates_per_hour, time.monotonic())

    async def round(self) -> float:
        """Seal what is due."""
        await self.stand()
        if self.lease is None:
            return ROUND_SECONDS * 4
        await self.measure_backlog()
        await self.expire(self.lease)
        await self.measure_spending()
        self.ahead = await self.store.ahead()
        held = 0
        due: list[Due] = []
        aged: list[Due] = []
        windows = await self.store.windows()
        self.report_probes(windows)
        for window in windows:
            if not window.key.dead and window.key.account not in self.creates_per_hour:
                continue  # what is left of an account that is configured no more waits for it
            policy = self.policy(window.key)
            limits = self.limits_now(window, policy)
            if limits is None:
                continue
            full = window.key.dead or window.flush or limits.reached_by(window.size)
            if not full and window.age_seconds < policy.age_max_seconds:
                continue
            if not self.due_ahead(window, policy, [(window.priority, 0)]):
                held += 1
                continue
            (due if full else aged).append((window, policy, limits))
        metrics.windows_held.set(held)
        due.sort(key=lambda each: (each[0].priority, self.sealed_at.get(each[0].lane_id, 0.0)))
        for each in [*due, *await self.affordable(aged)]:
            self.lease.progress()
            with self.apart(lane=str(each[0].key)):
                await self.seal(self.lease, *each)
        return ROUND_SECONDS

    def report_probes(self, windows: Sequence[OpenWindow]) -> None:
        """Say once of each probe that takes so long that the next one goes."""
        overdue = {each.lane_id: each.key for each in windows if each.probe_overdue}
        metrics.probes_overdue.set(len(overdue))
        for lane_id in overdue.keys() - self.probes_overdue:
            log.warning(
                "probe.overdue",
                lane=str(overdue[lane_id]),
                seconds=PROBE_SECONDS_MAX,
                fix="look at the lane's oldest batch: `penstock status`; it holds nothing up any more",
            )
        self.probes_overdue = set(overdue)

    def due_ahead(self, window: OpenWindow, policy: LanePolicy, asked: Sequence[tuple[int, int]]) -> int:
        """How many windows of a lane, each given by priority and tokens, may be sealed now; a flush seals all."""
        if window.key.dead or window.flush:
            return len(asked)
        ahead = self.ahead.get((window.key.account, window.key.model), {})
        limit = policy.enqueued_tokens_max or window.learned_limit
        return due_ahead(asked, ahead, limit, window.factor)

    async def stand(self) -> None:
        """Keep or take the lease, but for a replica with newer limits, and while the database lacks something."""
        if self.lease is None or not self.lease.held:
            metrics.forget(*HOLDERS_GAUGES)
        if self.census.newest and await self.census.trusts():
            self.lease = await self.keeper.standing("sealer", self.lease)
        elif self.lease is not None:
            lease, self.lease = self.lease, None
            await self.keeper.release(lease)

    async def expire(self, lease: Lease) -> None:
        """Let nothing wait past its deadline, whatever its lane waits for (W6)."""
        for lane_id, key in (await self.store.overdue_lanes()).items():
            lease.progress()
            limits = limits_of(self.policy(key), key.endpoint, None, 1.0, probe=False)
            with self.apart(lane=str(key)):
                while sealed := await self.store.expire(lease, Birth(lane_id, self.slots), limits):
                    metrics.batches_sealed.labels(self.lane_label(key), SealReason.DEADLINE).inc(sealed)
                    self.progressed()

    def policy(self, key: LaneKey) -> LanePolicy:
        """The lane's policy; dead letters wait for nothing."""
        if key.dead:
            return LanePolicy(age_max_seconds=DEAD_LETTER_AGE_SECONDS)
        return self.lanes.policy(key)

    async def affordable(self, aged: list[Due]) -> list[Due]:
        """Of the windows due by age, those that their account's creates cover: oldest and fullest first."""
        chosen: list[Due] = []
        stretched = 0.0
        for account, per_hour in self.creates_per_hour.items():
            mine = [each for each in aged if each[0].key.account == account]
            if not mine:
                continue
            mine.sort(key=over_age, reverse=True)
            used, waiting = await self.store.creates_pace(account)
            since = time.monotonic() - self.sealed_by_age_at[account]
            allowed = creates_allowed(used, waiting, per_hour, since)
            if mine[:allowed]:
                self.sealed_by_age_at[account] = time.monotonic()
            chosen += mine[:allowed]
            stretched = max([stretched, *(over_age(each)[0] for each in mine[allowed:])])
        metrics.window_age_stretched.set(stretched)
        return chosen

    async def seal(self, lease: Lease, window: OpenWindow, policy: LanePolicy, limits: WindowLimits) -> None:
        """Seal one lane, as far as its model may have something sealed ahead."""
        largest = (window.priority, limits.tokens or 0)
        most = 1 if window.probing else self.due_ahead(window, policy, [largest] * WINDOWS_PER_SEAL)
        if not most:
            return  # another lane of the model was sealed a moment ago
        luck = random.random()  # noqa: S311 - who goes first of equals
        asked: list[tuple[int, int]] = []

        def plan(chunks: Sequence[ChunkSummary], sizes_of: SizesOf) -> list[Sealed]:
            sealed = seal(
                chunks,
                limits,
                sizes_of,
                age_max_seconds=policy.age_max_seconds,
                flush=window.flush or window.key.dead,
                windows_max=most,
                toss=random.Random(luck).random,  # noqa: S311 - the plan is made again with each manifest that it reads
            )
            priorities = {each.id: each.turn.priority for each in chunks}
            asked[:] = [(min(priorities[part.chunk_id] for part in each.parts), each.size.tokens) for each in sealed]
            paid = affordable(self.tokens_left(window, policy), [tokens for _, tokens in asked])
            return sealed[: 1 if window.probing else self.due_ahead(window, policy, asked)][:paid]

        sealed = await self.store.seal(lease, Birth(window.lane_id, self.slots), plan, dead=window.key.dead)
        self.sealed_at[window.lane_id] = time.monotonic()
        self.count_sealed(window.key, asked[: len(sealed)])
        for batch_id, each in sealed:
            label = self.lane_label(window.key)
            metrics.batches_sealed.labels(label, each.reason).inc()
            metrics.window_fill.labels(window.key.endpoint).observe(each.size.requests / policy.requests_max)
            log.debug("window.sealed", batch=str(batch_id), lane=str(window.key), reason=each.reason, size=each.size)
        if sealed:
            metrics.phase_seconds.labels("window").observe(max(0.0, window.age_seconds))
            self.progressed()

    def count_sealed(self, key: LaneKey, sealed: Sequence[tuple[int, int]]) -> None:
        """Count what this round has sealed, by priority and tokens, against what may be sealed ahead and spent."""
        ahead = self.ahead.setdefault((key.account, key.model), {})
        for priority, tokens in sealed:
            ahead[priority] = ahead.get(priority, NOTHING_AHEAD).plus(Ahead(1, tokens))
        if self.spending is not None:
            self.spending.sealed(key, sum(tokens for _, tokens in sealed))

    def limits_now(self, window: OpenWindow, policy: LanePolicy) -> WindowLimits | None:
        """The limits of a lane's next window; None while a probe is under way or today's money is spent."""
        if window.probe_running:
            return None
        limits = limits_of(policy, window.key.endpoint, window.learned_limit, window.factor, probe=window.probing)
        tokens = self.tokens_left(window, policy)
        if tokens is None:
            return limits
        return replace(limits, tokens=min(tokens, limits.tokens or tokens)) if tokens > 0 else None

    def tokens_left(self, window: OpenWindow, policy: LanePolicy) -> int | None:
        """How many tokens of a lane today's money still buys; None: as many as there are."""
        if self.spending is None or window.key.dead:
            return None
        return self.spending.tokens_left(window.key, policy.usd_per_day_max)

    async def measure_spending(self) -> None:
        """Hold what was spent today against the limits, where there are any."""
        if not self.usd_per_day and not self.lanes.limits_spending:
            return
        self.spending = Spending(await self.store.spending(), self.usd_per_day)
        stopped = set()
        for kind, name, spent_usd, limit_usd in self.spending.against(self.lanes):
            metrics.spending_usd.labels(kind, name).set(spent_usd)
            metrics.spending_limit_usd.labels(kind, name).set(limit_usd)
            metrics.spending_stopped.labels(kind, name).set(spent_usd >= limit_usd)
            if spent_usd >= limit_usd:
                stopped.add((kind, name))
        for kind, name in stopped - self.stopped:
            log.error("spending.stopped", kind=kind, name=name, mend="it goes on at 00:00 UTC, or with a higher limit")
        for kind, name in self.stopped - stopped:
            log.info("spending.resumed", kind=kind, name=name)
        self.stopped = stopped

    async def measure_backlog(self) -> None:
        """About once a second: how much each request topic holds in Postgres, and whether its intake pauses."""
        now = time.monotonic()
        if now - self.backlog_at < BACKLOG_SECONDS:
            return
        self.backlog_at = now
        for topic, backlog in (await self.store.record_backlog(self.backlog_limits)).items():
            metrics.backlog_bytes.labels(topic).set(backlog.bytes)
            metrics.backlog_limit_bytes.labels(topic).set(self.backlog_limits[topic])
            metrics.backlog_paused.labels(topic).set(backlog.full)
            metrics.topic_paused.labels(topic).set(backlog.held)
