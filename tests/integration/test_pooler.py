"""The service behind a pooler in transaction mode: each transaction meets another session of the server."""

from tests.support.bridge import Bridge
from tests.support.conversation import Conversation
from tests.support.pooler import transaction_pooler
from tests.support.request import chat


async def test_requests_pass_a_pooler_that_keeps_no_session(bridge: Bridge) -> None:
    async with (
        transaction_pooler(bridge.dsn) as (dsn, pooler),
        bridge.service(postgres_dsn=dsn, postgres_statement_cache=False, lease_seconds=20) as service,
    ):
        talk = Conversation(bridge, service)
        await talk.ask([chat(f"request-{number}") for number in range(50)])
        await talk.check()
        assert pooler.transactions > 50
        assert not [each for each in service.logs() if each["level"] != "info"]
