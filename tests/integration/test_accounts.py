"""Two accounts of the provider, each with a server, a key, limits and webhooks of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.embedded.server import free_port
from tests.support.bridge import API_KEY, LANES, Bridge, open_bridge
from tests.support.command import penstock
from tests.support.conversation import Conversation, chats
from tests.support.crash import until
from tests.support.receiver import SECRET
from tests.support.request import chat
from tests.support.simulator import Simulator

OTHER_KEY = "sk-canary-other-5d01"
OTHER_SECRET = "whsec_b3RoZXItc2VjcmV0"
OTHERS = [("tenant", b"other")]
KNOWN, OTHER_KNOWN = 4000, 2000
LIMITS = f"""
[[lane]]
model = "known"
enqueued_tokens_max = {KNOWN}

[[lane]]
account = "other"
model = "known"
enqueued_tokens_max = {OTHER_KNOWN}
"""
HALTED, REFUSED = "penstock_account_halted", "penstock_batches_refused_total"
SLOW = {"poller_interval_seconds": 600, "poller_interval_max_seconds": 600}


class Two(NamedTuple):
    """The bridge, whose simulator is the first account's, and the other account's simulator and key file."""

    bridge: Bridge
    other: Simulator
    key: Path


@asynccontextmanager
async def two_accounts(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    folder: Path,
    *,
    table: str = "",
    first: Mapping[str, Any] | None = None,
    second: Mapping[str, Any] | None = None,
    defences_off: Sequence[str] = (),
) -> AsyncIterator[Two]:
    """A bridge to two simulators; requests of the tenant `other` go to the second one.

    Args:
        kafka: the session's broker.
        postgres: the session's server.
        folder: takes all files.
        table: further keys of the second account.
        first: options of the first simulator.
        second: options of the second one.
        defences_off: defences that services run without.
    """
    key = folder / "other-key"
    key.write_text(f"{OTHER_KEY}\n")
    async with Simulator(folder / "other", api_key=OTHER_KEY, **(second or {})) as other:
        account = f"""
[[account]]
name = "other"
tenants = ["other"]
base_url = "{other.base_url}"
api_key_file = "{key}"
{table}
"""
        lanes, options = f"{LANES}{LIMITS}{account}", {"api_key": API_KEY, **(first or {})}
        async with open_bridge(
            kafka, postgres, folder, partitions=1, lanes=lanes, simulator=options, defences_off=defences_off
        ) as bridge:
            bridge.more_simulators.append(other)
            yield Two(bridge, other, key)


async def peak(simulator: Simulator, model: str) -> int:
    """The most tokens of a model that were enqueued, until this is cancelled."""
    most = 0
    try:
        while True:
            most = max(most, (await simulator.control_state())["enqueued_tokens"].get(model, 0))
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return most


async def test_each_account_has_limits_of_its_own_and_a_denied_one_halts_alone_until_its_key_is_mended(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    first, second = (
        {"enqueued_tokens": [f"known={limit}"], "in_progress_seconds": 0.3} for limit in (KNOWN, OTHER_KNOWN)
    )
    stay = {"when": {"model": "known"}, "times": 4, "batch": {"seconds": {"in_progress": 2}}}
    async with (
        two_accounts(kafka, postgres, tmp_path, first=first, second=second) as (bridge, other, key),
        bridge.service(intake_linger_seconds=0.2, submitter_concurrency=4) as service,
    ):
        talk = Conversation(bridge, service)
        for each in (bridge.simulator, other):
            await each.faults([stay])  # long enough to be seen together
        watching = [asyncio.create_task(peak(each, "known")) for each in (bridge.simulator, other)]
        mine = [chat(f"mine-{number}", model="known", words=40) for number in range(120)]
        theirs = [chat(f"theirs-{number}", model="known", words=40) for number in range(120)]
        await asyncio.gather(talk.ask(mine), talk.ask(theirs, headers=OTHERS))
        for watch in watching:
            watch.cancel()
        most, others_most = [await each for each in watching]
        assert KNOWN / 2 < most <= KNOWN
        assert OTHER_KNOWN / 2 < others_most <= OTHER_KNOWN
        assert await service.metric(REFUSED) == 0

        key.unlink()  # not even there
        await other.faults([{"http": {"status": 401}}])
        await bridge.produce(chats("denied", 5), headers=OTHERS)
        await service.reached(HALTED, 1, account="other")
        await talk.ask(chats("flowing", 5))
        assert await service.metric(HALTED, account="default") == 0
        assert list(json.loads(service.get("/readyz"))["degraded"]) == ["account other"]
        assert {each["account"] for each in service.logs("account.denied")} == {"other"}
        checked = await penstock(bridge.environment(), "check", "--output", "json")
        found = {each["text"]: each["level"] for each in checked.json["findings"] if each["part"] == "provider"}
        assert sorted(found.values()) == ["ok", "problem"]

        key.write_text(f"{OTHER_KEY}\n")
        await other.faults([])
        await talk.answers([f"denied-{number}" for number in range(5)], hurry=True)
        assert await service.metric(HALTED) == 0
        assert json.loads(service.get("/readyz"))["degraded"] == {}
        await talk.check()


@pytest.mark.defence("own_creates")
async def test_an_account_that_has_no_creates_left_holds_up_no_other(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path, defences_off: tuple[str, ...]
) -> None:
    """The older windows are all of the account that has none left. Off: the others wait for them."""
    budget = "creates_per_hour = 2"
    async with (
        two_accounts(kafka, postgres, tmp_path, table=budget, defences_off=defences_off) as (bridge, _, _key),
        bridge.service() as service,
    ):
        talk = Conversation(bridge, service)
        await talk.ask(chats("all-there-was", 1), headers=OTHERS)
        await bridge.produce([each for n in range(5) for each in chats(f"waits-{n}", 1)], headers=OTHERS)

        async def they_came() -> bool:
            return len(await bridge.sql("SELECT FROM lane WHERE model LIKE 'waits-%'")) == 5

        await until(they_came)
        await talk.ask([each for n in range(5) for each in chats(f"goes-{n}", 1)])
        creates = "SELECT account, count(*) AS creates FROM intent GROUP BY account"
        used = {row["account"]: row["creates"] for row in await bridge.sql(creates)}
        assert used["other"] <= 2
        assert used["default"] == 5


async def test_webhooks_of_each_account_come_on_a_path_with_a_secret_of_their_own(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    port, secret = free_port(), tmp_path / "secret"
    url = f"http://127.0.0.1:{port}/webhooks"
    secret.write_text(OTHER_SECRET)
    hooks: dict[str, Any] = {"webhook_host": "127.0.0.1", "webhook_port": port, "webhook_secret": SECRET, **SLOW}
    async with (
        two_accounts(
            kafka,
            postgres,
            tmp_path,
            table=f'webhook_secret_file = "{secret}"',
            first={"webhook_url": url, "webhook_secret": SECRET},
            second={"webhook_url": f"{url}/other", "webhook_secret": OTHER_SECRET},
        ) as (bridge, _, _key),
        Simulator(tmp_path / "liar", webhook_url=f"{url}/other", webhook_secret=SECRET) as liar,
        bridge.service(**hooks) as service,
    ):
        talk = Conversation(bridge, service)
        await asyncio.gather(talk.ask(chats("mine", 2)), talk.ask(chats("theirs", 2), headers=OTHERS))
        rows = await bridge.sql("SELECT DISTINCT account FROM webhook ORDER BY account")
        assert [row["account"] for row in rows] == ["default", "other"]
        assert await liar.webhook("batch_any") == [400], "one account's secret proves nothing for another"
        await talk.check()


async def test_what_is_in_flight_at_an_account_that_is_configured_no_more_is_reported_and_waits_for_it(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with two_accounts(kafka, postgres, tmp_path) as (bridge, other, _):
        await other.faults([{"times": 1, "batch": {"seconds": {"in_progress": 2}}}])
        with_it = bridge.lanes.read_text()
        async with bridge.service(stages="intake,seal,submit"):
            await bridge.produce(chats("running", 3), headers=OTHERS)

            async def running() -> bool:
                return bool(await bridge.sql("SELECT FROM batch WHERE state = 'submitted'"))

            await until(running)
        async with bridge.service(stages="intake") as intake:
            await bridge.produce(chats("stored", 2), headers=OTHERS)
            await intake.reached("penstock_requests_received_total", 2)
        bridge.lanes.write_text(f"{LANES}{LIMITS}".replace('account = "other"', ""))
        async with bridge.service() as service:
            said = await service.logged("account.unknown")
            assert (said["account"], said["requests"], said["level"]) == ("other", 5, "error")
            assert await service.metric("penstock_account_unknown_requests", account="other") == 5
            await Conversation(bridge, service).ask(chats("flowing", 3), headers=OTHERS)
            status = await penstock(bridge.environment(), "status", "--output", "json")
            assert [each["name"] for each in status.json["halts"]] == ["other"]
            checked = await penstock(bridge.environment(), "check", "--output", "json")
            assert not checked.json["passed"]
            assert len(await bridge.sql("SELECT FROM batch WHERE state = 'submitted'")) == 1
            assert len(await bridge.sql("SELECT FROM chunk WHERE taken = 0")) == 1
        bridge.lanes.write_text(with_it)
        async with bridge.service() as service:
            talk = Conversation(bridge, service)
            await talk.answers([*(f"running-{number}" for number in range(3)), "stored-0", "stored-1"])
            assert not service.logs("account.unknown")
            await talk.check()


@pytest.mark.parametrize("condition", ['topics = ["{topic}"]', 'endpoints = ["/v1/embeddings"]'])
async def test_a_running_service_refuses_a_lanes_file_that_is_wrong_about_accounts(
    bridge: Bridge, condition: str
) -> None:
    bridge.lanes.write_text(f'[[account]]\nname = "other"\n{condition.format(topic=bridge.requests)}\n')
    finished = await penstock(bridge.environment(), "run")
    assert finished.code != 0
    assert "account 'other' needs api_key_file" in finished.err
