"""Webhooks of the provider, proven by the SDK."""

import time
from collections.abc import Mapping
from typing import Any

from penstock.core.batch import Hint
from penstock.core.errors import WebhookRefused
from penstock.provider.answer import identity
from penstock.provider.client import ProviderClient
from penstock.settings import WebhookSettings

TYPES = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
TOLERANCE_SECONDS = 300
"""The SDK's own, by which it refuses."""


class WebhookReader:
    """Tells what a webhook hints at.

    Args:
        settings: where the secret is; it is read anew for each, so that a rotated one is taken up.
        client: of the account.
    """

    def __init__(self, settings: WebhookSettings, client: ProviderClient) -> None:
        self.settings = settings
        self.client = client

    def read(self, body: bytes, headers: Mapping[str, str]) -> Hint | None:
        """The hint in a webhook; None for an event that tells of no batch.

        Args:
            body: exactly as it came.
            headers: by name in any case.

        Raises:
            WebhookRefused: its signature or its time is wrong, or it makes no sense.
            ConfigurationError, OSError: there is no secret.
        """
        secret = self.settings.read_secret()
        try:
            event: Any = self.client.sdk.webhooks.unwrap(body, headers, secret=secret)
            if event.type not in TYPES:
                return None
            return Hint(identity(headers["webhook-id"]), identity(event.data.id))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            # A signature beyond ASCII is a TypeError of the SDK's comparison.
            raise WebhookRefused("untimely" if is_untimely(headers) else "forged") from error


def is_untimely(headers: Mapping[str, str]) -> bool:
    """Whether a webhook's timestamp is the reason to refuse it."""
    try:
        return abs(time.time() - int(headers.get("webhook-timestamp", ""))) > TOLERANCE_SECONDS
    except (ValueError, OverflowError):
        return False
