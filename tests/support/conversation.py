"""A service that runs through several tests, and what each of them asks of it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.bridge import WAIT_SECONDS, Bridge
from tests.support.live_reader import Received
from tests.support.request import chat
from tests.support.service import Service
from tests.support.waiting import NeverCame

POLL_SECONDS = 0.05
HURRY = (
    "UPDATE batch SET not_before = '-infinity' WHERE state = 'sealed' AND not_before > clock_timestamp()",
    "UPDATE account_halt SET next_at = clock_timestamp() WHERE next_at > clock_timestamp()",
)


@dataclass(slots=True)
class Conversation:
    """Requests and their answers, lane by lane, over one bridge and one service.

    `paid_twice` adds up what the tests so far have made the provider execute twice.
    """

    bridge: Bridge
    service: Service
    paid_twice: int = 0

    async def ask(
        self,
        lines: Iterable[Mapping[str, Any]],
        *,
        headers: Sequence[tuple[str, bytes]] = (),
        hurry: bool = False,
        timeout_seconds: float = WAIT_SECONDS,
    ) -> list[Received]:
        """Send requests; returns their answers in the same order, once all have come.

        Args:
            lines: the requests, each with a custom_id of its own.
            headers: of every one of them.
            hurry: let batches and halted accounts that wait for their next try be due at once.
            timeout_seconds: for all of it.
        """
        asked = list(lines)
        await self.bridge.produce(asked, headers=headers)
        return await self.answers([each["custom_id"] for each in asked], hurry=hurry, timeout_seconds=timeout_seconds)

    async def answers(
        self, custom_ids: Sequence[str], *, hurry: bool = False, timeout_seconds: float = WAIT_SECONDS
    ) -> list[Received]:
        """The answers of requests that were sent before, in this order.

        Raises:
            NeverCame: they have not come; the message is the service's log.
        """
        received = self.bridge.reader.received[self.bridge.result_topic]
        found: dict[str, Received] = {}
        read = 0
        try:
            async with asyncio.timeout(timeout_seconds):
                while not found.keys() >= set(custom_ids):
                    await asyncio.sleep(POLL_SECONDS)
                    if hurry:
                        for statement in HURRY:
                            await self.bridge.sql(statement)
                    found |= {each.custom_id: each for each in received[read:]}
                    read = len(received)
        except TimeoutError:
            missing = sorted(set(custom_ids) - found.keys())
            said = f"{missing[:10]}:\n{self.service.text()[-8000:]}"
            raise NeverCame(f"no answer to {len(missing)} of {len(set(custom_ids))}\n{said}") from None
        return [found[each] for each in custom_ids]

    async def batches(self, model: str) -> list[Any]:
        """The rows of a model's batches, in the order in which they were sealed."""
        query = "SELECT b.* FROM batch AS b JOIN lane AS l ON l.id = b.lane_id WHERE l.model = $1 ORDER BY b.sealed_at"
        return await self.bridge.sql(query, model)

    async def creates(self, model: str) -> int:
        """How many batches of a model were announced to the provider."""
        query = "SELECT i.id FROM intent AS i JOIN batch AS b ON b.id = i.batch_id JOIN lane AS l ON l.id = b.lane_id"
        return len(await self.bridge.sql(f"{query} WHERE l.model = $1", model))

    async def check(self, *, paid_twice: int = 0) -> None:
        """Judge all that was said so far; exactly so many more requests were executed twice."""
        self.paid_twice += paid_twice
        report = await self.bridge.check(extra_executions_allowed=self.paid_twice)
        assert report["extra_executions"] == self.paid_twice


def chats(model: str, count: int) -> list[dict[str, Any]]:
    """So many requests of a model, which is the lane."""
    return [chat(f"{model}-{number}", model=model) for number in range(count)]
