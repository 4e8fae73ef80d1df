"""Stages in processes of their own, as they are when they are scaled apart."""

from tests.support.bridge import Bridge
from tests.support.request import chat

SUBMIT = "seal,submit,poll,janitor"
PUBLISH = "collect,publish"


async def test_requests_go_through_stages_that_run_apart(bridge: Bridge) -> None:
    async with bridge.service(stages="intake"), bridge.service(stages=SUBMIT), bridge.service(stages=PUBLISH):
        await bridge.produce([chat(f"{number}") for number in range(50)])
        await bridge.results(50)


async def test_intake_that_has_newer_limits_first_keeps_nobody_from_sealing(bridge: Bridge) -> None:
    old = bridge.service(stages=f"{SUBMIT},{PUBLISH}", generation=1)
    async with bridge.service(stages="intake", generation=2), old:
        await bridge.produce([chat("one")])
        await bridge.results(1)
