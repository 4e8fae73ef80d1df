"""Which rights `penstock run` needs on the brokers, and which of them are missing.

Nothing is disturbed: Metadata tells what may be done with topics; the group gets a heartbeat of a member that it does
not have, and each transactional id an end of a transaction by a producer that it does not have. Both are refused for
that reason when the right is there, and for the right's sake when it is not.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.errors import for_code
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.transaction import EndTxnRequest

from penstock.kafka.layout import Role, Wanted
from penstock.kafka.right import Operation, Resource, Right
from penstock.kafka.topics import Cluster, TopicClient

OPERATIONS: Mapping[Role, Sequence[Operation]] = {
    Role.REQUESTS: (Operation.READ, Operation.DESCRIBE_CONFIGS),
    Role.RESULTS: (Operation.WRITE, Operation.DESCRIBE_CONFIGS),
    Role.DEAD_LETTERS: (Operation.WRITE, Operation.DESCRIBE_CONFIGS),
    Role.LEDGER: (Operation.READ, Operation.WRITE, Operation.DESCRIBE_CONFIGS),
}
"""What the service does with a topic of each kind."""
GROUP, TRANSACTION = 0, 1
"""Kinds of coordinators."""
GROUP_DENIED = 30
TRANSACTION_DENIED = 53
MOVING = frozenset({14, 15, 16, 51})
"""The coordinator loads, is not there, has moved, or is busy: ask again."""
NOBODY = "penstock-check"
"""A member that no group has: the brokers make the ids of members."""
FOREIGN = 2**62
"""A producer id that no broker has given."""
TRIES = 40
PAUSE_SECONDS = 0.25


def topic_rights(wanted: Iterable[Wanted]) -> list[Right]:
    """What is needed on topics."""
    return [Right(each, Resource.TOPIC, topic.name) for topic in wanted for each in OPERATIONS[topic.role]]


def needed_rights(wanted: Iterable[Wanted], group: str, prefix: str) -> list[Right]:
    """The least set of rights with which `penstock run` works.

    Args:
        wanted: every topic of the deployment.
        group: the consumer group.
        prefix: of the publisher's transactional ids.
    """
    return [*topic_rights(wanted), group_right(group), transaction_right(prefix)]


def group_right(group: str) -> Right:
    """What is needed on the consumer group."""
    return Right(Operation.READ, Resource.GROUP, group)


def transaction_right(prefix: str) -> Right:
    """What is needed on the publisher's transactional ids."""
    return Right(Operation.WRITE, Resource.TRANSACTIONAL_ID, prefix, prefix=True)


def missing_on_topics(wanted: Iterable[Wanted], cluster: Cluster) -> list[Right]:
    """The rights on topics that we lack, by the brokers' word.

    Args:
        wanted: every topic of the deployment.
        cluster: described with operations. Who may not describe a topic may neither read nor write it; whether its
            settings may be read is not known then.
    """
    found = []
    for right in topic_rights(wanted):
        topic = cluster.topics.get(right.name)
        hidden = right.name in cluster.denied and right.operation is not Operation.DESCRIBE_CONFIGS
        told = topic is not None and topic.operations is not None
        if hidden or (told and topic is not None and not (topic.operations or 0) & right.operation.bit):
            found.append(right)
    return found


class RightProver:
    """Asks for what Metadata does not tell.

    Args:
        client: connected.
    """

    def __init__(self, client: TopicClient) -> None:
        self.admin: Any = client.admin

    async def may_consume(self, group: str) -> bool:
        """Whether a group may be read.

        Raises:
            KafkaError: its coordinator does not answer.
        """
        return await self.asked(GROUP, group, HeartbeatRequest(group, 0, NOBODY)) != GROUP_DENIED

    async def may_transact(self, transactional_id: str) -> bool:
        """Whether a transactional id may be written.

        Raises:
            KafkaError: its coordinator does not answer.
        """
        end = EndTxnRequest(transactional_id, FOREIGN, 0, False)
        return await self.asked(TRANSACTION, transactional_id, end) != TRANSACTION_DENIED

    async def asked(self, kind: int, key: str, request: Any) -> int:
        """The error code with which a coordinator, or the look-up of it, answers."""
        denied = TRANSACTION_DENIED if kind == TRANSACTION else GROUP_DENIED
        code = 0
        for _ in range(TRIES):
            found = await self.admin._send_request(FindCoordinatorRequest(key, kind))  # noqa: SLF001 - no public way
            code = found.error_code
            if not code:
                answer = await self.admin._send_request_to_node(found.coordinator_id, request)  # noqa: SLF001 - no public way
                code = answer.error_code
            if code == denied or code not in MOVING:
                return int(code)
            await asyncio.sleep(PAUSE_SECONDS)
        raise for_code(code)(key)

    async def missing(self, group: str, transactional_ids: Sequence[str], prefix: str) -> list[Right]:
        """The rights on the group and on transactional ids that we lack.

        Args:
            group: the consumer group.
            transactional_ids: of the publisher.
            prefix: that they have in common.
        """
        found = []
        if not await self.may_consume(group):
            found.append(group_right(group))
        for each in transactional_ids:
            if not await self.may_transact(each):
                found.append(transaction_right(prefix))
                break
        return found
