"""The documented rights are those that are asked for."""

import uuid
from pathlib import Path

import pytest

from penstock.kafka.layout import Role, Wanted
from penstock.kafka.right import Operation, Resource, Right
from penstock.kafka.rights import OPERATIONS, missing_on_topics
from penstock.kafka.topics import Cluster, Topic

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes.md"
LEDGER = Wanted("ledger", Role.LEDGER, 1)
KINDS = {
    Role.REQUESTS: "each request topic",
    Role.RESULTS: "each result topic, the dead-letter topic",
    Role.DEAD_LETTERS: "each result topic, the dead-letter topic",
    Role.LEDGER: "the ledger",
}


@pytest.mark.parametrize("role", list(Role))
def test_the_page_lists_what_is_needed_on_topics(role: Role) -> None:
    assert f"| topic | {KINDS[role]} | {', '.join(OPERATIONS[role])} |" in PAGE.read_text()


def cluster(operations: int | None) -> Cluster:
    return Cluster("c", {"ledger": Topic("ledger", uuid.UUID(int=1), 1, 1, {}, operations)})


def test_rights_that_the_brokers_do_not_tell_are_missing() -> None:
    read_only = cluster(Operation.READ.bit)
    assert [each.operation for each in missing_on_topics([LEDGER], read_only)] == ["Write", "DescribeConfigs"]
    every = sum(each.bit for each in Operation)
    assert missing_on_topics([LEDGER], cluster(every)) == []
    assert missing_on_topics([LEDGER], cluster(None)) == []
    hidden = Cluster("c", {}, frozenset({"ledger"}))
    assert [each.operation for each in missing_on_topics([LEDGER], hidden)] == ["Read", "Write"]


def test_a_right_says_the_command_that_adds_it() -> None:
    right = Right(Operation.WRITE, Resource.TRANSACTIONAL_ID, "penstock-d-slot-", prefix=True)
    assert str(right) == "Write on transactional-id penstock-d-slot-*"
    assert right.command.endswith(
        "--operation Write --transactional-id penstock-d-slot- --resource-pattern-type prefixed"
    )
