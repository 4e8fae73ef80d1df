"""What happens to a batch that has to end: cancelled by an operator, told to stop, or given up."""

from collections.abc import Mapping
from typing import Any

from penstock.cli.printing import age
from penstock.core.batch import BatchState
from penstock.settings import PollerSettings
from penstock.stages.acquaintance import GRACE_SECONDS


def what_happens(batch: Mapping[str, Any], settings: PollerSettings) -> str | None:
    """Since when a batch has to end, and what it waits for; None when it does not have to, or has ended.

    Args:
        batch: `state`, `cancel`, `provider_open`, `asked_seconds`, `told_seconds` and `given_up_seconds` of a report.
        settings: how long each step may take.
    """
    asked = batch["asked_seconds"] if batch["cancel"] else None
    if asked is not None and batch["state"] == BatchState.SEALED:
        return (
            f"cancelled {age(asked)} ago, before it was sent; a replica that runs the stage submit ends it within a"
            " minute, or as soon as an upload that has begun is over"
        )
    if asked is not None and batch["state"] == BatchState.CREATING:
        return (
            f"cancelled {age(asked)} ago, while its create is in doubt; it waits until the provider says whether it"
            " made the batch, and is then cancelled there"
        )
    if asked is not None and batch["state"] in (BatchState.ENDED, BatchState.DECIDED):
        return (
            f"cancelled {age(asked)} ago, after it had ended at the provider; a replica that runs the stage publish"
            " tries its files once more, within a minute, and goes on without what cannot be had"
        )
    if not batch["provider_open"]:
        return None
    if batch["given_up_seconds"] is not None:
        left = max(0.0, settings.given_up_seconds - batch["given_up_seconds"])
        return (
            f"given up here {age(batch['given_up_seconds'])} ago, its requests go on without it; "
            f"the provider is asked about it for {age(left)} more; its tokens stay reserved for an hour after it"
        )
    grace = age(settings.cancel_grace_seconds)
    if batch["told_seconds"] is not None:
        return (
            f"the provider was first told to stop it {age(batch['told_seconds'])} ago; "
            f"if it has not ended {grace} after that, it is given up here"
        )
    if asked is None:
        return None
    return (
        f"cancelled {age(asked)} ago; a replica tells the provider within a minute; if the provider cannot be asked"
        f" about it for {grace}, it is given up here, {age(GRACE_SECONDS)} later when the account's key knows none of"
        " our batches"
    )
