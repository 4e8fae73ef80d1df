# ruff: noqa: ARG002 - the fakes take what the real ones take
import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from penstock.core.batch import ProviderBatch
from penstock.core.errors import ProviderDenied, ProviderMissing, ProviderUnavailable
from penstock.core.lane import LaneKey
from penstock.postgres.database import Held
from penstock.postgres.poller_store import PollerStore, Sighting, Watched
from penstock.provider.client import ProviderClient
from penstock.settings import PollerSettings
from penstock.stages import poller as module
from penstock.stages.acquaintance import GRACE_SECONDS, Acquaintance
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.poller import Poller

NOW = datetime.now(UTC)
GRACES = PollerSettings().stuck_grace_seconds + PollerSettings().cancel_grace_seconds


def watched(name: str, overdue_seconds: float = -1.0) -> Watched:
    key = LaneKey("account", "/v1/responses", "gpt-4o", "24h")
    return Watched(
        uuid.uuid4(), key, 3, name, "in_progress", NOW, 1.0, overdue_seconds, None, cancel=False, abandoned=False
    )


def shown(name: str, status: str = "in_progress") -> ProviderBatch:
    return ProviderBatch(name, status, NOW, None, None, None, (), {}, 0, 0, 0)


class FakeStore(PollerStore):
    """What the poller would write."""

    def __init__(self, batches: Sequence[Watched]) -> None:
        self.batches = batches
        self.abandoned: list[tuple[uuid.UUID, bool]] = []
        self.cancelled: list[uuid.UUID] = []
        self.sightings: list[Sighting] = []
        self.forgotten: list[uuid.UUID] = []

    async def forget(self, lease: Held, batch_id: uuid.UUID) -> bool:
        self.forgotten.append(batch_id)
        return True

    async def watched(self, account: str) -> list[Watched]:
        return list(self.batches)

    async def record(self, lease: Held, sightings: Sequence[Sighting]) -> set[uuid.UUID]:
        self.sightings += sightings
        return set()

    async def request_cancel(self, lease: Held, batch_id: uuid.UUID) -> None:
        self.cancelled.append(batch_id)

    async def abandon(self, lease: Held, batch_id: uuid.UUID, *, gone: bool) -> bool:
        self.abandoned.append((batch_id, gone))
        return True


class FakeClient(ProviderClient):
    """An account whose list is empty; batches named so are missing or fail."""

    def __init__(self) -> None:
        self.retrieved: list[str] = []
        self.cancels: list[str] = []
        self.listed: list[ProviderBatch] = []
        self.ended: set[str] = set()
        self.well: set[str] = set()
        self.unlisted = False
        self.renewed = 0

    def renew(self) -> None:
        self.renewed += 1

    async def page(self, after: str | None) -> tuple[list[ProviderBatch], str | None]:
        if self.unlisted:
            raise ProviderUnavailable("batches.list", "")
        return self.listed, None

    async def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        self.retrieved.append(provider_batch_id)
        if provider_batch_id.startswith("missing"):
            raise ProviderMissing("batches.retrieve", "")
        if provider_batch_id.startswith("denied") and provider_batch_id not in self.well:
            raise ProviderDenied("batches.retrieve", "Incorrect API key provided.", code="invalid_api_key")
        if provider_batch_id.startswith("failing") and provider_batch_id not in self.well:
            raise ProviderUnavailable("batches.retrieve", "")
        status = "completed" if provider_batch_id in self.ended else "in_progress"
        return shown(provider_batch_id, status)

    async def cancel(self, provider_batch_id: str) -> None:
        self.cancels.append(provider_batch_id)
        if provider_batch_id.startswith("kept"):
            raise ProviderUnavailable("batches.cancel", "")


class FakeKeeper:
    store = SimpleNamespace(seconds=30.0)

    def __init__(self, *, elsewhere: bool = False) -> None:
        self.elsewhere = elsewhere

    async def standing(self, name: str, current: Lease | None) -> Lease | None:
        return None if self.elsewhere else Lease(name, 1, 60.0, float("inf"), time.monotonic())


class FakeAcquaintance:
    """An account that knows other batches of ours, or none."""

    def __init__(self, *, known: bool) -> None:
        self.known = known
        self.halts: list[str] = []

    async def denied(self, account: str, stage: str, error: ProviderDenied, again_seconds: float) -> None:
        self.halts.append(error.code)

    async def allowed(self, account: str, stage: str) -> None:
        self.halts.append("")

    async def knows(self, account: str, *, afresh: bool = False) -> bool:
        return self.known


def poller_of(*batches: Watched, known: bool = False) -> tuple[Poller, FakeStore, FakeClient]:
    store, client, keeper = FakeStore(batches), FakeClient(), cast("LeaseKeeper", cast("Any", FakeKeeper()))
    acquaintance = cast("Acquaintance", cast("Any", FakeAcquaintance(known=known)))
    return Poller(asyncio.Event(), PollerSettings(), "account", store, client, acquaintance, keeper, str), store, client


async def test_stragglers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALLS_PER_ROUND", 2)
    poller, _, client = poller_of(*(watched(each) for each in "abcde"))
    for _ in range(5):
        await poller.round()
    assert "".join(client.retrieved) == "abcdeabcde"


async def test_failures_keep_no_batch_from_being_seen_in_the_end() -> None:
    poller, _, client = poller_of(*(watched(each) for each in ("failing-1", "failing-2", "failing-3", "good")))
    await poller.guarded_round()
    await poller.round()
    assert client.retrieved[3] == "good"


@pytest.mark.outcome("cancel-refused")
async def test_a_batch_that_cannot_be_cancelled_holds_up_no_other_and_is_given_up_past_its_grace() -> None:
    kept, other = watched("kept", GRACES + 1), watched("other", GRACES + 1)
    poller, store, client = poller_of(kept, other)
    await poller.round()
    assert (store.cancelled, client.cancels) == ([kept.id, other.id], ["kept", "other"])
    grace = PollerSettings().cancel_grace_seconds
    store.batches = [replace(each, cancelling_seconds=grace - 1) for each in (kept, other)]
    await poller.round()
    assert client.cancels[2:] == ["kept", "other"], "a call that failed once is not made again"
    store.batches = [replace(each, cancelling_seconds=grace + 1) for each in (kept, other)]
    await poller.round()
    assert store.abandoned == [(kept.id, False), (other.id, False)]
    assert store.cancelled == [kept.id, other.id]


@pytest.mark.outcome("forgotten")
async def test_a_batch_that_the_provider_forgot_is_abandoned_past_both_graces() -> None:
    late, early = watched("missing-1", GRACES + 1), watched("missing-2", GRACES - 1)
    poller, store, _ = poller_of(late, early, watched("good"))
    await poller.round()
    assert store.abandoned == [(late.id, True)]


@pytest.mark.outcome("key-changed")
async def test_with_a_key_that_knows_none_of_our_batches_they_are_kept_for_longer() -> None:
    late, later = watched("missing-1", GRACES + 1), watched("missing-2", GRACES + GRACE_SECONDS + 1)
    poller, store, _ = poller_of(late, later)
    await poller.round()
    assert store.abandoned == [(later.id, True)]


def halted() -> float | None:
    return REGISTRY.get_sample_value("penstock_account_halted", {"account": "account", "stage": "poller"})


async def test_an_account_is_not_halted_by_one_round_that_saw_nothing() -> None:
    """A stale list and a batch that is not found yet can meet by chance."""
    poller, _, _ = poller_of(watched("missing-1"))
    await poller.round()
    assert not halted()
    await poller.round()
    assert halted() == 1


async def test_a_refused_account_is_shown_to_operators_until_it_is_taken_again() -> None:
    poller, _, client = poller_of(watched("denied-1"), known=True)
    shown = cast("FakeAcquaintance", poller.acquaintance).halts
    await poller.round()
    assert (shown, halted()) == (["invalid_api_key"], 1)
    client.well.add("denied-1")
    for _ in range(2):
        await poller.round()
    assert (shown, halted()) == (["invalid_api_key", ""], 0)


async def test_an_account_that_knows_others_of_our_batches_is_not_halted() -> None:
    """Those that are watched can be missed by chance, more than once."""
    poller, _, _ = poller_of(watched("missing-1"), known=True)
    for _ in range(3):
        await poller.round()
    assert not poller.halted


async def test_who_watches_an_account_no_more_says_no_longer_that_it_is_halted() -> None:
    poller, _, _ = poller_of(watched("missing-1"))
    for _ in range(2):
        await poller.round()
    assert halted() == 1
    poller.keeper = cast("LeaseKeeper", cast("Any", FakeKeeper(elsewhere=True)))
    await poller.round()
    assert halted() == 0


async def test_an_account_of_which_nothing_is_watched_any_more_is_not_halted() -> None:
    poller, store, _ = poller_of(watched("missing-1"))
    for _ in range(2):
        await poller.round()
    assert halted() == 1
    store.batches = []
    await poller.round()
    assert halted() == 0


async def test_a_list_that_fails_keeps_no_batch_from_being_retrieved() -> None:
    poller, _, client = poller_of(watched("one"), watched("other"))
    client.unlisted = True
    await poller.round()
    assert client.retrieved == ["one", "other"]


async def test_while_nothing_answers_a_round_has_failed() -> None:
    poller, _, client = poller_of(watched("failing-1"), watched("failing-2"))
    client.unlisted = True
    with pytest.raises(ProviderUnavailable):
        await poller.round()


@pytest.mark.parametrize(("output", "tokens", "known"), [("file", 0, False), ("file", 9, True), (None, 0, True)])
async def test_a_batch_that_has_results_and_tells_no_usage_has_no_known_cost(
    output: str | None, tokens: int, *, known: bool
) -> None:
    poller, store, _ = poller_of(one := watched("one"))
    seen = ProviderBatch("one", "expired", NOW, None, output, None, (), {}, tokens, 0, tokens)
    await poller.record(Lease("poller", 1, 60.0, float("inf"), 0.0), [one], {"one": seen})
    assert [each.bill is not None for each in store.sightings] == [known]


LONG_AGO = -1e9


async def test_a_batch_that_does_not_move_in_the_list_is_retrieved_by_itself_now_and_then() -> None:
    """Off: a list that is stale for good has everything stand still."""
    poller, store, client = poller_of(watched("one"), watched("other"))
    client.listed, client.ended = [shown("one"), shown("other")], {"one"}
    await poller.round()
    assert client.retrieved == [], "the list is believed for a while"
    poller.asked_at = dict.fromkeys(poller.asked_at, LONG_AGO)
    await poller.round()
    assert sorted(client.retrieved) == ["one", "other"], "nobody asked for them"
    assert [each.seen.id for each in store.sightings] == ["one"]


async def test_a_stale_list_is_told_once_and_makes_no_more_than_some_calls_in_a_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(module.log, "warning", lambda event, **_: told.append(event))
    names = [f"batch-{number}" for number in range(3 * module.UNMOVED_PER_ROUND)]
    poller, _, client = poller_of(*map(watched, names))
    client.listed, client.ended = [shown(each) for each in names], set(names)
    await poller.round()
    for number in range(1, 4):
        poller.asked_at = {
            each: at if at > LONG_AGO and each in client.retrieved else LONG_AGO for each, at in poller.asked_at.items()
        }
        await poller.round()
        assert len(set(client.retrieved)) == len(client.retrieved) == number * module.UNMOVED_PER_ROUND
    assert told == ["list.stale"]
    assert poller.list_stale
    client.listed = [shown(each, "finalizing") for each in names]
    await poller.round()
    assert not poller.list_stale, "the list moves again"


@pytest.mark.outcome("retrieve-never")
@pytest.mark.parametrize("answers", [True, False])
async def test_a_batch_whose_retrieve_fails_in_any_way_for_long_enough_is_closed(*, answers: bool) -> None:
    """Off: it is open for ever. While the account knows none of ours that takes a day more."""
    late = watched("failing-1", GRACES + (0.0 if answers else GRACE_SECONDS) + 1)
    early = watched("failing-2", GRACES + (-1.0 if answers else GRACE_SECONDS - 1))
    poller, store, _ = poller_of(late, early, *([watched("good")] if answers else []))
    await poller.guarded_round()
    assert store.abandoned == [], "it failed once"
    poller.failing_since = dict.fromkeys(poller.failing_since, LONG_AGO)
    await poller.guarded_round()
    assert store.abandoned == [(late.id, False)], "it is open for ever"


async def test_a_batch_that_can_be_retrieved_in_between_is_not_closed_for_its_failures() -> None:
    late = watched("failing-1", GRACES + 1)
    poller, store, client = poller_of(late, watched("good"))
    await poller.round()
    poller.failing_since = dict.fromkeys(poller.failing_since, LONG_AGO)
    client.well = {"failing-1"}
    await poller.round()
    client.well = set()
    await poller.round()
    assert store.abandoned == []


@pytest.mark.outcome("cancel-lost")
@pytest.mark.parametrize(("name", "gone"), [("missing-1", True), ("failing-1", False)])
async def test_a_batch_that_an_operator_cancels_and_nobody_finds_ends_within_a_bound(name: str, *, gone: bool) -> None:
    grace = PollerSettings().cancel_grace_seconds
    just = replace(watched("missing-2"), cancel=True, cancel_asked_seconds=grace - 1)
    cancelled = replace(watched(name), cancel=True, cancel_asked_seconds=grace + 1)
    poller, store, _ = poller_of(just, cancelled, watched("good"))
    poller.failing_since = {name: LONG_AGO}
    await poller.round()
    assert store.abandoned == [(cancelled.id, gone)]


@pytest.mark.parametrize("name", ["good-1", "failing-1", "missing-1"])
async def test_a_batch_that_was_given_up_and_never_ends_is_watched_for_so_long(name: str) -> None:
    """Off: it keeps its tokens for ever."""
    bound = PollerSettings().given_up_seconds
    old, young = (replace(watched(name), abandoned=True, abandoned_seconds=bound + late) for late in (1, -1))
    poller, store, _ = poller_of(old, young, watched("good"))
    await poller.round()
    assert store.forgotten == [old.id], "it keeps its tokens for ever"


async def test_what_a_batch_cost_that_was_given_up_is_counted_as_paid_in_vain() -> None:
    def counted() -> float:
        labels = {"lane": "vain", "direction": "input"}
        return REGISTRY.get_sample_value("penstock_tokens_in_vain_total", labels) or 0.0

    given_up = replace(watched("one"), abandoned=True)
    poller, _, _ = poller_of(given_up)
    poller.lane_label = lambda _: "vain"
    seen = ProviderBatch("one", "completed", NOW, None, "file", None, (), {}, 7, 0, 5)
    poller.ended(Sighting(given_up, seen, None))
    poller.ended(Sighting(watched("other"), seen, None))
    assert counted() == 7
