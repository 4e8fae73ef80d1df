"""Which batch at the provider a create of ours has made, when its answer was lost."""

import uuid
from collections.abc import Container, Iterable

from penstock.core.batch import ProviderBatch


def made_by(
    seen: Iterable[ProviderBatch],
    creates: Iterable[uuid.UUID],
    *,
    deployment: str,
    file_id: str | None,
    known: Container[str],
) -> tuple[uuid.UUID, ProviderBatch] | None:
    """The create that made one of the batches seen, and that batch; None when none of them is of these creates.

    Metadata names the create. A provider that drops metadata still tells the input file, which is of one batch alone.

    Args:
        seen: the provider's batches.
        creates: those whose answer was lost, oldest first.
        deployment: ours.
        file_id: the input file that the creates named.
        known: the provider's batches that earlier creates of the same file are known to have made.
    """
    wanted = {each.hex: each for each in creates}
    by_file: ProviderBatch | None = None
    for each in seen:
        if each.id in known:
            continue
        name = each.metadata.get("penstock_create")
        create = wanted.get(name or "")
        if create is not None and each.metadata.get("penstock_deployment") == deployment:
            return create, each
        if name is None and file_id is not None and each.input_file_id == file_id:
            by_file = each
    if by_file is None or not wanted:
        return None
    return list(wanted.values())[-1], by_file
