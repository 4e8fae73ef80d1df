"""Webhooks that came: whichever replica receives one, the poller's holder sees its hint, and all see a replay."""

from penstock.core.batch import Hint
from penstock.postgres.database import Database


class WebhookStore:
    """Webhooks of one account. They are kept longer than their timestamps are accepted, then the janitor deletes them.

    Args:
        database: where they are kept.
        account: whose they are.
    """

    def __init__(self, database: Database, account: str) -> None:
        self.database = database
        self.account = account

    async def note(self, hint: Hint) -> bool:
        """Keep a webhook's hint for the poller; False when this webhook came before."""
        rows = await self.database.fetch("note_webhook", self.account, hint.webhook_id, hint.provider_batch_id)
        return bool(rows)
