"""One partition that halts, for whatever reason, holds up no other."""

from tests.support.bridge import Bridge
from tests.support.poison import poison
from tests.support.request import chat


async def test_a_halted_partition_that_the_group_never_committed_holds_up_no_other(bridge: Bridge) -> None:
    async with bridge.service():
        await bridge.produce([chat("first")], partition=0)
        await bridge.results(1)
    await bridge.sql("UPDATE position SET halted_reason = 'a test' WHERE partition = 0")
    for partition in (0, 1, 2):
        await bridge.produce([chat(f"second-{partition}-{n}") for n in range(10)], partition=partition)
    async with bridge.service(kafka_group=f"{bridge.deployment}-new") as service:
        results = await bridge.results(21)
        assert await service.metric("penstock_intake_resets_total") < 20
        assert await service.metric("penstock_partitions_halted") == 1
        assert not [each for each in results if each.custom_id.startswith("second-0")]
    await bridge.sql("UPDATE position SET halted_reason = NULL")
    async with bridge.service():
        await bridge.results(31)
        await bridge.check()


async def test_a_record_that_cannot_be_decoded_halts_its_partition_alone(bridge: Bridge) -> None:
    await poison(bridge, 0)
    for partition in (0, 1, 2):
        await bridge.produce([chat(f"request-{partition}-{n}") for n in range(10)], partition=partition)
    async with bridge.service() as service:
        await bridge.results(20)
        halt = await service.logged("partition.halted")
        assert (halt["partition"], halt["mend"]) == (0, f"penstock resume {bridge.requests} 0")
        assert "cannot be read" in halt["reason"]
    await bridge.sql("UPDATE position SET halted_reason = NULL, position = 1 WHERE partition = 0")
    async with bridge.service():
        results = await bridge.results(30)
    assert len({each.custom_id for each in results}) == 30
