import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from penstock.cli.find import Match, describe, search_page
from penstock.core.chunk import Manifest, encode_manifest
from penstock.core.decision import FORMAT, Decision, Outcome, encode_decision
from penstock.settings import PollerSettings

CHUNK = uuid.UUID(int=7)
NOW = datetime.now(UTC)
SETTINGS = PollerSettings()
MATCH = Match(CHUNK, 2, 0, "requests", 1, 12, 1.0, "cluster/topic/1/12")


def manifest(*custom_ids: str) -> bytes:
    count = len(custom_ids)
    made = Manifest.empty("cluster", "requests", uuid.UUID(int=1))
    made.custom_ids = list(custom_ids)
    made.partitions = [1] * count
    made.offsets = list(range(10, 10 + count))
    made.received = [1.0] * count
    return encode_manifest(made)


def found(custom_id: str, *custom_ids: str) -> list[int]:
    page = [(CHUNK, 0, manifest(*custom_ids))]
    return [match.offset for match in search_page(page, custom_id, msgspec.msgpack.encode(custom_id))]


@pytest.mark.parametrize("custom_id", ["a", "x" * 31, "x" * 32, "x" * 300, "über \u2028", "a\x00b"])
def test_an_id_is_found_wherever_it_stands_and_as_often(custom_id: str) -> None:
    assert found(custom_id, custom_id, "other", custom_id) == [10, 12]
    assert found(custom_id, "other") == []


def test_a_part_of_an_id_is_not_that_id() -> None:
    assert found("order-1", "order-11", "my-order-1") == []


def place(**columns: Any) -> dict[str, Any]:
    row = {
        "account": "default",
        "endpoint": "/v1/responses",
        "model": "m",
        "completion_window": "24h",
        "not_before": NOW,
        "batch_id": uuid.UUID(int=9),
        "state": "submitted",
        "provider_batch_id": "batch_1",
        "provider_status": "in_progress",
        "published_at": None,
        "next_position": 0,
        "place": 2,
        "decision": None,
        "cancel": None,
        "provider_open": True,
        "asked_seconds": None,
        "told_seconds": None,
        "given_up_seconds": None,
    }
    return row | columns


def decision(outcome: Outcome) -> bytes:
    return encode_decision(Decision(FORMAT, bytes([Outcome.OUTPUT, Outcome.OUTPUT, outcome])))


def test_a_request_waits_in_a_window() -> None:
    told = describe(MATCH, place(batch_id=None), SETTINGS)
    assert told is not None
    assert (told["state"], told["lane"], told["not_before"]) == ("window", "default/v1/responses:m@24h", None)


def test_a_request_is_at_the_provider() -> None:
    told = describe(MATCH, place(), SETTINGS)
    assert told is not None
    assert (told["state"], told["provider_batch"], told["provider_status"]) == ("submitted", "batch_1", "in_progress")


def test_a_request_of_a_cancelled_batch_waits_for_its_end() -> None:
    told = describe(MATCH, place(cancel="again", asked_seconds=5.0), SETTINGS)
    assert told is not None
    assert told["ending"].startswith("cancelled 5.0 s ago; ")


@pytest.mark.parametrize(("next_position", "state"), [(2, "decided"), (3, "published")])
def test_a_decided_request_is_published_once_the_ledger_has_passed_it(next_position: int, state: str) -> None:
    where = place(state="decided", decision=decision(Outcome.ERROR), next_position=next_position)
    told = describe(MATCH, where, SETTINGS)
    assert told is not None
    assert (told["state"], told["outcome"]) == (state, "error")


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.RESEND])
def test_an_attempt_that_is_over_does_not_count(outcome: Outcome) -> None:
    assert describe(MATCH, place(state="published", decision=decision(outcome), published_at=NOW), SETTINGS) is None
