import asyncio
from collections import Counter
from pathlib import Path

import pytest
from openai import APIConnectionError

from tests.support.simulator import (
    REACH_SECONDS,
    Simulator,
    chat_lines,
    create_batch,
    reach,
    result_lines,
    run_batch,
    upload,
)


async def test_everything_is_there_after_a_kill(tmp_path: Path) -> None:
    async with Simulator(tmp_path / "state") as simulator:
        async with simulator.client() as client:
            done = await run_batch(client, chat_lines(20), metadata={"lane": "a"})
            lines = await result_lines(client, done.output_file_id)
            uploaded = await client.files.retrieve(await upload(client, b"kept"))
            await simulator.faults([{"times": 1, "batch": {"stuck": "in_progress"}}])
            stuck = await create_batch(client, chat_lines(3))
            await reach(client, stuck.id, "in_progress")
        journal = simulator.journal()
        await simulator.restart()
        async with simulator.client() as client:
            assert await client.batches.retrieve(done.id) == done
            assert await result_lines(client, done.output_file_id) == lines
            assert await client.files.retrieve(uploaded.id) == uploaded
            assert (await client.batches.retrieve(stuck.id)).status == "in_progress"
            assert simulator.journal() == journal
            assert (await run_batch(client, chat_lines(1))).status == "completed"
            assert len({batch.id async for batch in client.batches.list()}) == 3


async def test_a_batch_goes_on_in_the_status_it_had(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with Simulator(state, validating_seconds=1.5, in_progress_seconds=1.5, finalizing_seconds=1.5) as simulator:
        async with simulator.client() as client:
            batch = await create_batch(client, chat_lines(5))
        for status in ("validating", "in_progress", "finalizing"):
            async with simulator.client() as client:
                assert (await reach(client, batch.id, status)).status == status
            await simulator.restart()
        async with simulator.client() as client:
            completed = await reach(client, batch.id)
            assert completed.status == "completed"
            assert len(await result_lines(client, completed.output_file_id)) == 5


async def test_a_kill_in_the_middle_of_the_work_doubles_nothing(tmp_path: Path) -> None:
    content = chat_lines(8_000)
    async with Simulator(tmp_path / "state") as simulator:
        async with simulator.client() as client:
            file_id = await upload(client, content)
            create = client.batches.create
            batches = [
                await create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
                for _ in range(3)
            ]
        interrupted: set[str] = set()
        for delay in (0.05, 0.12, 0.19, 0.26, 0.33):
            await asyncio.sleep(delay)  # the kill has to come at some moment of the work, not at a moment that is known
            interrupted |= set((await simulator.control_state())["batches"]) - {"completed"}
            await simulator.restart()
        async with simulator.client() as client:
            for batch in batches:
                assert (await reach(client, batch.id)).status == "completed"
        executed = Counter(
            (entry["batch_id"], entry["custom_id"])
            for entry in simulator.journal()
            if entry["event"] == "request.executed"
        )
        assert interrupted
        assert set(executed.values()) == {1}
        assert len(executed) == 3 * 8_000
        async with asyncio.timeout(REACH_SECONDS):
            while list((simulator.state / "inputs").iterdir()):
                await asyncio.sleep(0.01)


async def test_a_journal_cut_in_the_middle_of_a_line_is_mended(tmp_path: Path) -> None:
    async with Simulator(tmp_path / "state") as simulator:
        async with simulator.client() as client:
            await run_batch(client, chat_lines(2))
        journal = simulator.journal()
        await simulator.kill()
        with (simulator.state / "journal.jsonl").open("ab") as file:
            file.write(b'{"event":"request.exec')
        await simulator.start()
        assert simulator.journal() == journal


async def test_an_upload_that_a_kill_interrupts_leaves_nothing(tmp_path: Path) -> None:
    async with Simulator(tmp_path / "state") as simulator:
        await simulator.faults([{"operation": "files.create", "http": {"effect": "late", "late_seconds": 60}}])
        async with simulator.client() as client:
            with pytest.raises(APIConnectionError):
                await upload(client, b"x" * 1000)
        await simulator.restart()
        assert list((simulator.state / "scratch").iterdir()) == []
        async with simulator.client() as client:
            assert (await client.files.list()).data == []


async def test_sigterm_ends_it_well(tmp_path: Path) -> None:
    async with Simulator(tmp_path / "state") as simulator:
        async with simulator.client() as client:
            await run_batch(client, chat_lines(1))
            assert await simulator.stop() == 0
        assert "Traceback" not in simulator.log()


async def test_two_simulators_cannot_share_a_state(tmp_path: Path) -> None:
    async with Simulator(tmp_path / "state") as simulator:
        second = Simulator(tmp_path / "state")
        with pytest.raises(RuntimeError, match="another batchsim uses"):
            await second.start()
        assert (await simulator.control_state())["pid"] == simulator.pid


async def test_the_same_seed_makes_the_same_world(tmp_path: Path) -> None:
    outcome = {"batch": {"lines": [{"fraction": 0.5, "status_code": 429}]}}
    worlds = []
    for name in ("one", "two"):
        async with Simulator(tmp_path / name, seed=7) as simulator, simulator.client() as client:
            await simulator.faults([outcome])
            batch = await run_batch(client, chat_lines(20))
            worlds.append((batch.id, await result_lines(client, batch.error_file_id)))
    assert worlds[0] == worlds[1]


async def test_hundreds_of_batches_run_at_once(tmp_path: Path) -> None:
    async with (
        Simulator(tmp_path / "state", in_progress_seconds=0.5, jitter=1) as simulator,
        simulator.client() as client,
    ):
        file_id = await upload(client, chat_lines(3))
        create = client.batches.create
        await asyncio.gather(
            *(
                create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
                for _ in range(300)
            )
        )
        async with asyncio.timeout(REACH_SECONDS):
            while (await simulator.control_state())["batches"] != {"completed": 300}:
                await asyncio.sleep(0.02)
