import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.identity import (
    WIRE_ID_LENGTH_MAX,
    Origin,
    WireId,
    batch_of_file,
    file_name,
    new_id,
    parse_result_id,
    parse_wire_id,
    result_id,
    slot_of,
    transactional_id,
    wire_id,
)

BATCH = uuid.UUID("0123456789abcdef0123456789abcdef")


@given(st.uuids(), st.integers(0, 50_000))
@pytest.mark.outcome("limit-custom-id")
def test_a_wire_id_reads_back_and_fits_every_provider(chunk_id: uuid.UUID, index: int) -> None:
    text = wire_id(chunk_id, index)
    assert parse_wire_id(text) == WireId(chunk_id, index)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "request-1",
        BATCH.hex,
        f"{BATCH.hex}-",
        f"{BATCH.hex}-x",
        f"{BATCH.hex}--1",
        f"{BATCH.hex}-1.0",
        f"{BATCH.hex}-²",
        f"{BATCH.hex}-٣",
        f"{BATCH}-1",
        f"{BATCH.hex[:-1]}-1",
        f"{BATCH.hex[:-1]}g-1",
        f"{BATCH.hex}-" + "1" * WIRE_ID_LENGTH_MAX,
    ],
)
def test_what_we_did_not_write_is_no_wire_id(text: str) -> None:
    assert parse_wire_id(text) is None


@given(st.text(max_size=70))
def test_any_text_can_be_asked(text: str) -> None:
    parse_wire_id(text)


def test_a_file_name_leads_back_to_its_batch() -> None:
    name = file_name("prod-1", BATCH, bytes(32))
    assert batch_of_file("prod-1", name) == BATCH
    assert name == f"penstock-prod-1-{BATCH.hex}-{'00' * 32}.jsonl"


@pytest.mark.parametrize(
    "name",
    ["", "notes.jsonl", "penstock-", "penstock-prod-1-", f"penstock-prod-{BATCH.hex}.jsonl", f"prod-1-{BATCH.hex}"],
)
def test_files_of_others_have_no_batch(name: str) -> None:
    assert batch_of_file("prod-1", name) is None


def test_a_deployment_whose_name_goes_on_is_another_one() -> None:
    assert batch_of_file("prod", file_name("prod-1", BATCH, bytes(32))) is None


def test_the_same_message_always_has_the_same_result_id() -> None:
    assert result_id("cluster", Origin(BATCH.bytes, 3, 0, 7)) == f"cluster/{BATCH.hex}/3/7"


def test_a_message_of_a_later_incarnation_has_another_result_id_at_the_same_offset() -> None:
    later = Origin(BATCH.bytes, 3, 2, 7)
    assert result_id("cluster", later) == f"cluster/{BATCH.hex}/3~2/7"
    assert parse_result_id(result_id("cluster", later), "cluster") == later
    for partition in ("3~0", "3~", "3~-1", "~1", "3~1~1"):
        assert parse_result_id(f"cluster/{BATCH.hex}/{partition}/7", "cluster") is None


def test_a_result_id_leads_back_to_its_message_on_its_own_cluster_alone() -> None:
    topic_id = bytes(range(16))
    origin = Origin(topic_id, 3, 0, 7)
    assert parse_result_id(result_id("c", origin), "c") == origin
    for text in (result_id("d", origin), "", "c/", "c/xy/1/2", "c/00/1", "c/00/1/2/3", "c/00/1/a"):
        assert parse_result_id(text, "c") is None


def test_a_batch_keeps_its_slot_and_batches_spread_over_all() -> None:
    slots = [slot_of(new_id(), 4) for _ in range(400)]
    assert set(slots) == {0, 1, 2, 3}
    assert slot_of(BATCH, 32) == slot_of(BATCH, 32) == BATCH.int % 32
    assert transactional_id("prod", 3) == "penstock-prod-slot-3"
