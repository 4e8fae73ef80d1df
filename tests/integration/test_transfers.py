"""What goes wrong with files: uploads and downloads that are cut, wrong or refused. One service, a lane for each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge, open_bridge
from tests.support.conversation import Conversation, chats
from tests.support.crash import batches, input_files, settled
from tests.support.crash import chats as some
from tests.support.request import chat

LANES = "[defaults]\nage_max_seconds = 0.3\nretry_min_seconds = 0.1\n"
CALLS = "penstock_provider_calls_total"
UNMATCHED = "penstock_provider_lines_unmatched_total"


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("transfers")
    async with (
        open_bridge(kafka, postgres, folder, partitions=1, lanes=LANES) as bridge,
        bridge.service(intake_linger_seconds=0.2) as service,
    ):
        yield Conversation(bridge, service)


def http(operation: str, times: int, **fault: Any) -> dict[str, Any]:
    """A rule for the next calls."""
    return {"operation": operation, "times": times, "http": fault}


async def ask_all(talk: Conversation, models: Sequence[str]) -> None:
    """A batch of each model, all at once."""
    await asyncio.gather(*(talk.ask(chats(model, 10), hurry=True) for model in models))
    assert [await talk.creates(model) for model in models] == [1] * len(models)


@pytest.mark.outcome("completed", "redownload-input", "empty-error-file")
async def test_a_batch_takes_one_upload_and_one_download_of_a_file_and_never_its_input_back(talk: Conversation) -> None:
    await talk.bridge.simulator.faults([{"when": {"model": "empty"}, "batch": {"empty_files": True}}])
    operations = ("files.create", "files.content")
    before = [await talk.service.metric(CALLS, operation=each) for each in operations]
    await ask_all(talk, ["plain", "empty"])
    after = [await talk.service.metric(CALLS, operation=each) for each in operations]
    assert [late - early for late, early in zip(after, before, strict=True)] == [2, 3]
    assert [bool(batch["error_file_id"]) for model in ("plain", "empty") for batch in await talk.batches(model)] == [
        False,
        True,
    ]
    await talk.check()


@pytest.mark.outcome("download-cut", "download-short", "download-corrupt")
async def test_a_download_that_came_wrong_is_made_again_and_nothing_is_paid_twice(talk: Conversation) -> None:
    faults = ("cut_after_bytes", "truncate_to_bytes", "corrupt_at_byte")
    await talk.bridge.simulator.faults([http("files.content", 1, **{fault: 1500}) for fault in faults])
    await ask_all(talk, faults)
    assert await talk.bridge.simulator.fired() == [1, 1, 1]
    await talk.check()


@pytest.mark.outcome("download-corrupt")
async def test_a_line_that_nobody_can_read_however_often_goes_again(talk: Conversation) -> None:
    """The provider itself keeps it so: two downloads agree."""
    await talk.bridge.simulator.faults([http("files.content", 2, corrupt_at_byte=1500)])
    before = await talk.service.metric(UNMATCHED, kind="unreadable")
    await talk.ask(chats("spoilt", 10))
    assert await talk.service.metric(UNMATCHED, kind="unreadable") == before + 1
    assert await talk.creates("spoilt") == 2
    await talk.check(paid_twice=1)


@pytest.mark.outcome("upload-cut", "upload-truncated")
async def test_an_upload_that_went_wrong_is_made_again_and_its_batch_is_created_once(talk: Conversation) -> None:
    # The SDK sends a call twice more that had no answer.
    rules: list[tuple[int, dict[str, Any]]] = [
        (3, {"drop": True}),
        (3, {"drop": True, "effect": "done"}),
        (1, {"keep_bytes": 100}),
    ]
    await talk.bridge.simulator.faults([http("files.create", times, **fault) for times, fault in rules])
    models = ("lost", "arrived", "short")
    await ask_all(talk, models)
    assert await talk.bridge.simulator.fired() == [3, 3, 1]
    async with talk.bridge.simulator.client() as client:
        for model in models:
            (batch,) = await talk.batches(model)
            assert (await client.files.retrieve(batch["file_id"])).bytes == batch["bytes"]
    await talk.check()


@pytest.mark.outcome("upload-too-large", "uploads-per-minute")
async def test_an_upload_over_what_the_server_takes_is_split_until_it_fits(talk: Conversation) -> None:
    """A request that is too large alone is answered; more uploads than a minute has room for wait."""
    limit = {"operation": "files.create", "when": {"body_bytes_min": 4_000}, "http": {"status": 413}}
    busy = http("files.create", 4, status=429, message="Rate limit reached.", headers={"retry-after": "0.2"})
    await talk.bridge.simulator.faults([limit, busy])
    large = chat("large-alone", model="large", words=2_000)
    *answers, alone = await talk.ask([*chats("large", 40), large], hurry=True)
    assert {each.json["error"] for each in answers} == {None}
    assert alone.json["error"]["code"] == "413"
    assert await talk.creates("large") > 1
    await talk.check()


@pytest.mark.outcome("files-limit")
async def test_a_file_is_found_where_the_list_takes_few_at_a_time(talk: Conversation) -> None:
    rules = [
        http("files.create", 3, drop=True, effect="done"),
        {"operation": "files.list", "http": {"limit_max": 100}},
    ]
    await talk.bridge.simulator.faults(rules)
    await ask_all(talk, ["listed"])
    assert not [each for each in talk.service.logs("batch.postponed") if "files.list" in each["error"]]
    await talk.check()


@pytest.mark.outcome("files-endless")
async def test_a_file_that_a_list_without_an_end_does_not_show_is_uploaded_again(talk: Conversation) -> None:
    rules = [
        http("files.create", 3, drop=True),
        http("files.list", 1_000, first_page=True),
    ]
    await talk.bridge.simulator.faults(rules)
    await ask_all(talk, ["unlisted"])
    await talk.check()


@pytest.mark.outcome("storage-full")
async def test_when_all_storage_is_full_batches_go_as_finished_ones_are_cleared_away(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Of three batches only the first has room: the files of each make room for the next once it is published."""
    simulator = {"storage_bytes": 5_000, "in_progress_seconds": 0.5}
    async with (
        open_bridge(kafka, postgres, tmp_path, partitions=1, lanes=LANES, simulator=simulator) as bridge,
        bridge.service(janitor_file_grace_seconds=0, intake_linger_seconds=0.5) as service,
    ):
        talk = Conversation(bridge, service)
        lines = [each for number in range(3) for each in chats(f"full-{number}", 12)]
        await talk.ask(lines, hurry=True)
        assert [each for each in service.logs("account.denied") if "storage quota" in each["error"]]
        assert batches(bridge) == 3
        await talk.check()


@pytest.mark.outcome("download-reordered")
async def test_a_second_download_in_another_order_is_read_anew(bridge: Bridge) -> None:
    """The answer to the decision is lost: what was downloaded for it is gone, and comes again otherwise."""
    await bridge.simulator.faults([{"batch": {"reordered": True}}])
    async with bridge.service(failpoints="collector.decide=after:lose") as service:
        await bridge.produce(some(10), partition=0)
        await settled(bridge, 10)
        assert await service.metric(CALLS, operation="files.content") == 2
    assert (batches(bridge), await input_files(bridge)) == (1, 1)
