"""Steady traffic over several lanes and two topics, and an ear for what comes back, in memory bounded by both."""

import asyncio
import contextlib
import json
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.support.live_reader import LiveReader
from tests.support.request import CANARY, chat, embedding

TICK_SECONDS = 0.1
AWAY_SECONDS = 60.0
SMALL_MODEL = "gpt-4.1-nano"
BAD = (
    b"not json " + CANARY.encode(),
    b'{"custom_id":"bad","method":"POST","url":"/v1/nowhere","body":{"model":"gpt-4o"}}',
    b'{"custom_id":"bad","method":"POST","url":"/v1/chat/completions"}',
    b"",
)
SHARES = {"mini": 40, "large": 20, "embedding": 25, "small": 10, "long": 3, "hasty": 1, "bad": 1}
"""Of a hundred messages: chats with two models, embeddings, a lane with few enqueued tokens, chats of 16 KB, chats
with a deadline of half a minute, and what is no request."""


def messages(chance: Random) -> Iterator[tuple[bytes, list[tuple[str, bytes]]]]:
    """Values and headers, each value another."""
    kinds, weights = list(SHARES), list(SHARES.values())
    for number in count():
        name = f"soak-{number}"
        [kind] = chance.choices(kinds, weights)
        words = chance.randrange(10, 100)
        request: dict[str, Any]
        match kind:
            case "bad":
                yield BAD[number % len(BAD)], []
                continue
            case "embedding":
                request = embedding(name, inputs=chance.randrange(1, 4))
            case "small":
                request = chat(name, model=SMALL_MODEL, words=words)
            case "large":
                request = chat(name, model="gpt-4o", words=words)
            case "long":
                request = chat(name, words=3000)
            case _:
                request = chat(name, words=words)
        yield json.dumps(request).encode(), [("penstock-deadline-seconds", b"30")] if kind == "hasty" else []


class Waiting:
    """The messages that have no answer yet, and how long the others waited for theirs."""

    def __init__(self) -> None:
        self.since: dict[bytes, float] = {}
        self.seconds = array("f")

    def answered(self, key: bytes) -> None:
        """An answer came."""
        since = self.since.pop(key, None)
        if since is not None:
            self.seconds.append(time.monotonic() - since)


class Ear(LiveReader):
    """A live reader that counts what it reads instead of keeping it."""

    def __init__(self, bootstrap: str, topics: Mapping[str, int], seen: Path) -> None:
        super().__init__(bootstrap, topics, seen)
        self.waiting = Waiting()
        self.counts: Counter[str] = Counter()

    def keep(self, record: Any) -> None:
        """Count it."""
        self.counts[record.topic] += 1
        self.waiting.answered(record.key)


class Traffic:
    """Sends messages at a steady rate while it runs, whatever happens to the broker.

    Args:
        bootstrap: the broker.
        topics: the request topics, in turn.
        rate: messages a second.
        seed: of what they are.
        waiting: takes the time of each message, by its key.
    """

    def __init__(self, bootstrap: str, topics: list[str], rate: float, seed: str, waiting: Waiting) -> None:
        self.bootstrap = bootstrap
        self.topics = topics
        self.rate = rate
        self.messages = messages(Random(f"{seed}/traffic"))
        self.waiting = waiting
        self.produced = 0
        self.failed = 0
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        """Send until it is stopped, then until all has been sent; a producer that fails is replaced."""
        while not self.stopped.is_set():
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, linger_ms=20)
            try:
                await producer.start()
                await self.send(producer)
            except (KafkaError, OSError):
                await asyncio.sleep(1.0)
            finally:
                with contextlib.suppress(KafkaError, OSError, TimeoutError):
                    async with asyncio.timeout(AWAY_SECONDS):
                        await producer.stop()

    async def send(self, producer: AIOKafkaProducer) -> None:
        """Send so many a second; what could not be sent while the broker was away is made up for."""
        began, sent = time.monotonic(), 0
        while not self.stopped.is_set():
            due = int((time.monotonic() - began) * self.rate)
            while sent < due:
                value, headers = next(self.messages)
                key = b"key-%d" % self.produced
                topic = self.topics[self.produced % len(self.topics)]
                self.produced += 1
                self.waiting.since[key] = time.monotonic()
                done = await producer.send(topic, value, key=key, headers=headers)
                done.add_done_callback(partial(self.sent, key))
                sent += 1
            await asyncio.sleep(TICK_SECONDS)

    def sent(self, key: bytes, done: "asyncio.Future[Any]") -> None:
        """A message that may not have arrived is not waited for; the topic tells whether it has."""
        if done.cancelled() or done.exception() is not None:
            self.failed += 1
            self.waiting.since.pop(key, None)
