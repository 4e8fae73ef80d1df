"""A broker's quota for producers (AlterClientQuotas, KIP-546). aiokafka does not speak it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

ENTITY = Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8")))


class QuotaResponseV0(Response):  # type: ignore[misc]  # aiokafka is untyped
    """An error for each entity."""

    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("entries", Array(("error_code", Int16), ("error_message", String("utf-8")), ("entity", ENTITY))),
    )


class QuotaRequestV0(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    """Set or remove quotas of entities; a name of None is the default."""

    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = QuotaResponseV0
    SCHEMA = Schema(
        (
            "entries",
            Array(
                ("entity", ENTITY),
                ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean))),
            ),
        ),
        ("validate_only", Boolean),
    )


class QuotaRequest(Request[QuotaRequestV0]):  # type: ignore[misc]  # aiokafka is untyped
    """The quota of every client id."""

    API_KEY: ClassVar[int] = 49

    def __init__(self, key: str, value: float, *, remove: bool) -> None:
        self.entries: Sequence[Any] = [([("client-id", None)], [(key, value, remove)])]

    def build(self, request_struct_class: type[QuotaRequestV0]) -> QuotaRequestV0:
        """The struct for the one version that is spoken."""
        return request_struct_class(self.entries, False)


@asynccontextmanager
async def producer_quota(bootstrap: str, bytes_a_second: float) -> AsyncIterator[None]:
    """Hold every client id to so many bytes a second that it produces."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()

    async def send(*, remove: bool) -> None:
        request = QuotaRequest("producer_byte_rate", bytes_a_second, remove=remove)
        answer = await admin._client.send(admin._client.get_random_node(), request)  # noqa: SLF001 - it offers no other
        assert [error for error, _, _ in answer.entries] == [0], answer

    try:
        await send(remove=False)
        yield
        await send(remove=True)
    finally:
        await admin.close()
