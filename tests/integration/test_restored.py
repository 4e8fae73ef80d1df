"""Postgres is restored from an older backup, while results have been published since (crash point 5)."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge
from tests.support.command import penstock
from tests.support.crash import chats, settled, until
from tests.support.service import Service

LANES = """
[defaults]
age_max_seconds = 0.3
retry_min_seconds = 0.2

[[lane]]
model = "windowed"
age_max_seconds = {}
"""
AT_ONCE, NEVER_SEALED = 0.3, 3600
ANSWERED = 60
SLOW = {"when": {"model": "slow*"}, "batch": {"seconds": {"in_progress": 4}}}
NEVER = {"when": {"model": "never"}, "batch": {"seconds": {"in_progress": 3600}}}
FAILING = {
    "when": {"model": "failing"},
    "times": 1,
    "batch": {"seconds": {"in_progress": 4}, "lines": [{"count": 4, "status_code": 500}]},
}


class Backup:
    """A copy of a bridge's database, made while nobody uses it."""

    def __init__(self, bridge: Bridge, postgres: EmbeddedPostgres) -> None:
        self.name = urlsplit(bridge.dsn).path[1:]
        self.dsn = postgres.dsn

    async def execute(self, *statements: str) -> None:
        """Statements on the server, each by itself."""
        connection = await asyncpg.connect(self.dsn)
        try:
            for each in statements:
                await connection.execute(each)
        finally:
            await connection.close()

    async def take(self) -> None:
        """Copy everything; a pooler still holds connections, though nobody is behind them."""
        await self.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.name}'",
            f'CREATE DATABASE "{self.name}-old" TEMPLATE "{self.name}"',
        )

    async def restore(self) -> None:
        """What came since is lost."""
        await self.execute(
            f'DROP DATABASE "{self.name}" WITH (FORCE)', f'ALTER DATABASE "{self.name}-old" RENAME TO "{self.name}"'
        )


def ids(bridge: Bridge) -> set[str]:
    """Requests that are answered."""
    return {each.custom_id for each in bridge.reader.received[bridge.result_topic]}


async def before(bridge: Bridge, sent: list[dict[str, Any]]) -> None:
    """Until the backup: some requests are answered, some at the provider, sealed, or in a window."""

    async def send(count: int, model: str) -> None:
        await bridge.produce(lines := chats(count, f"early-{model}", model=model), partition=len(sent) // 10 % 3)
        sent.extend(lines)

    await bridge.simulator.faults([SLOW, NEVER, FAILING])
    async with bridge.service():
        await send(10, "quick")
        await bridge.results(10)
        await send(10, "slow")
        await send(10, "failing")

        async def submitted() -> bool:
            return len(await bridge.sql("SELECT 1 FROM batch WHERE provider_status = 'in_progress'")) == 2

        await until(submitted)
    bridge.lanes.write_text(LANES.format(NEVER_SEALED))
    async with bridge.service(stages="intake,seal"):
        await send(10, "sealed")

        async def sealed() -> bool:
            return bool(await bridge.sql("SELECT FROM batch JOIN lane ON lane.id = lane_id WHERE model = 'sealed'"))

        await until(sealed)
        await send(10, "windowed")

        async def stored() -> bool:
            query = "SELECT FROM chunk JOIN lane ON lane.id = lane_id WHERE model = 'windowed'"
            return len(await bridge.sql(query)) == 1

        await until(stored)
    bridge.lanes.write_text(LANES.format(AT_ONCE))


async def since(bridge: Bridge, sent: list[dict[str, Any]], backup: Backup) -> None:
    """After the backup: all of those are answered, and more come; some of them are answered, some at the provider.

    Then the database is restored under the replica.
    """
    async with bridge.service() as service:
        late = chats(10, "late-quick", model="quick")
        await bridge.produce(late, partition=0)
        answered = (await bridge.results(ANSWERED))[0]
        never = chats(5, "late-never", model="never")
        (partition, offset), *_ = await bridge.produce(never, partition=1)
        # A producer may name its headers as it likes: none of these is an answer.
        topic, _, _ = (answered.headers["penstock-result-id"] or b"").decode().rsplit("/", 2)
        forged = [("penstock-result-id", each) for each in (f"{topic}/{partition}/{offset}".encode(), b"\xff")]
        await bridge.produce([b"no request"], partition=2, headers=forged)
        await bridge.dead_letters(1)

        async def running() -> bool:
            return bool((await bridge.simulator.control_state())["batches"].get("in_progress"))

        await until(running)
        sent.extend([*late, *never])
        await backup.restore()
        await halted(bridge, service)


async def halted(bridge: Bridge, service: Service) -> None:
    """Wait until a replica has told that Postgres lost data; from then on it does nothing that costs or shows."""
    lost = await service.logged("data.lost")
    assert (lost["level"], lost["mend"]) == ("error", "penstock resume restored")
    submitted = await service.metric("penstock_batches_submitted_total")
    await asyncio.sleep(2.5)  # what waits in a window would be sealed, sent and answered by now
    assert await service.metric("penstock_data_lost") == 1
    assert await service.metric("penstock_batches_submitted_total") == submitted
    assert len(bridge.reader.received[bridge.result_topic]) == ANSWERED, "a result came again"


@pytest.mark.timeout(600)
@pytest.mark.defence("whole_ledger", "lost_heartbeat", "answered_published", "answered_taken_in")
@pytest.mark.outcome("restored", "position-lost", "ledger-unknown")
async def test_a_restored_database_halts_everything_and_goes_on_without_loss_or_double(
    bridge: Bridge, postgres: EmbeddedPostgres
) -> None:
    bridge.lanes.write_text(LANES.format(AT_ONCE))
    sent: list[dict[str, Any]] = []
    backup = Backup(bridge, postgres)
    await before(bridge, sent)
    await backup.take()
    await since(bridge, sent, backup)
    async with bridge.service() as service:
        assert (await service.logged("partition.halted"))["mend"] == "penstock resume restored"
        await halted(bridge, service)
        assert await service.metric("penstock_batches_submitted_total") == 0

    made = len([each for each in bridge.simulator.journal() if each["event"] == "batch.created"])
    await bridge.simulator.faults([])
    resumed = await penstock(bridge.environment(), "resume", "restored", "--yes")
    assert resumed.code == 0, resumed
    assert "1 of the provider's batches are adopted, 1 cancelled" in resumed.out, resumed
    again = await penstock(bridge.environment(), "resume", "restored", "--yes")
    assert "0 of the provider's batches are adopted, 0 cancelled" in again.out, again

    async with bridge.service() as service:
        after = chats(5, "after", model="after")
        await bridge.produce(after)
        sent.extend(after)
        await settled(bridge, len(sent), extra_executions_allowed=len(sent))
        assert not service.logs("data.lost")
        told = [each["target"] for each in service.logs("operator.resume")]
        assert told.count("restored") == 2
        assert any(each.startswith(f"partition {bridge.requests}") for each in told)
    assert ids(bridge) == {each["custom_id"] for each in sent}
    assert len(bridge.reader.received[bridge.dead_letter_topic]) == 1
    created = len([each for each in bridge.simulator.journal() if each["event"] == "batch.created"]) - made
    assert created == 2, "only what came late and was never answered, and what came after, is sent"


@pytest.mark.outcome("restored-before-replaced")
async def test_a_backup_from_before_a_log_was_replaced_halts_the_partition_and_loses_nothing(bridge: Bridge) -> None:
    """The backup is a database that never saw the later incarnation; the result topic holds an answer of it."""
    async with bridge.service():
        await bridge.produce(chats(4, "old"), partition=0)
        (first, *_) = await bridge.results(4)
    place = first.header("penstock-result-id").rpartition("/0/")[0]
    answer = [("penstock-result-id", f"{place}/0~1/6".encode())]
    await bridge.producer.send_and_wait(bridge.result_topic, b"{}", headers=answer)
    offsets = await bridge.produce(chats(4, "new"), partition=0)
    assert [offset for _, offset in offsets] == [4, 5, 6, 7]

    restored = await penstock(bridge.environment(), "resume", "restored", "--yes")
    assert restored.code == 0, restored
    assert "answers of its incarnation 1 begin at offset 6; offsets 4 to 5 are new messages" in restored.out, restored
    async with bridge.service() as service:
        halted = await service.logged("partition.halted")
        assert halted["mend"] == f"penstock resume partition {bridge.requests} 0"
    resumed = await penstock(bridge.environment(), "resume", "partition", bridge.requests, 0, "--yes")
    assert resumed.out.endswith("goes on at 4 within a minute\n"), resumed
    async with bridge.service():
        results = await bridge.results(8)
    ids = {each.header("penstock-result-id") for each in results}
    assert {each for each in ids if "/0~1/" in each} == {f"{place}/0~1/{offset}" for offset in (4, 5, 6, 7)}
