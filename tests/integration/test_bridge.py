from collections import defaultdict
from collections.abc import Iterable

from tests.support.bridge import Bridge
from tests.support.live_reader import Received
from tests.support.request import chat, embedding, moderation


async def test_requests_of_three_endpoints_are_answered_once_each(bridge: Bridge) -> None:
    async with bridge.service():
        for partition in range(3):
            lines = [make(f"{make.__name__}-{partition}-{n}") for n in range(20) for make in (chat, moderation)]
            lines += [embedding(f"embedding-{partition}-{n}", inputs=3) for n in range(20)]
            await bridge.produce(lines, partition=partition)
        results = await bridge.results(180)
        report = await bridge.check()
    assert len(results) == 180
    assert report["statuses"] == {"200": 180}
    assert report["executions"] == 180
