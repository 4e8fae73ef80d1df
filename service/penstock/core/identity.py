"""Names that are seen outside Postgres: random ids, wire ids, result ids, file names, producer ids.

Nothing here comes from a sequence that a fail-over of the database could rewind.
"""

import uuid
from dataclasses import dataclass
from typing import NamedTuple

WIRE_ID_LENGTH_MAX = 64  # `[A-Za-z0-9_-]{1,64}` is what every provider takes


@dataclass(frozen=True, slots=True)
class WireId:
    """A request's ``custom_id`` at the provider: the chunk that holds it and its index there."""

    chunk_id: uuid.UUID
    index: int


class Origin(NamedTuple):
    """The message that a request was read from.

    An *incarnation* above 0 says that the partition's log was replaced so often: the offset may have named another
    message before.
    """

    topic_id: bytes
    partition: int
    incarnation: int
    offset: int


def new_id() -> uuid.UUID:
    """A random 128-bit id for a batch, chunk, decision or create."""
    return uuid.uuid4()


def wire_id(chunk_id: uuid.UUID, index: int) -> str:
    """The ``custom_id`` that the provider sees: 32 hexadecimal digits, a dash, the index."""
    return f"{chunk_id.hex}-{index}"


def parse_wire_id(text: str) -> WireId | None:
    """Read a wire id back; None for anything that we did not write."""
    head, dash, tail = text.partition("-")
    if not dash or len(head) != 32 or len(text) > WIRE_ID_LENGTH_MAX or not tail.isascii() or not tail.isdigit():  # noqa: PLR2004 - a UUID has 32 hexadecimal digits
        return None
    try:
        return WireId(uuid.UUID(hex=head), int(tail))
    except ValueError:
        return None


def result_id(cluster_id: str, origin: Origin) -> str:
    """The deterministic id of the one result of a message of this cluster: `cluster/topic/partition/offset`.

    The partition of a later incarnation is `partition~incarnation`.
    """
    incarnation = f"~{origin.incarnation}" if origin.incarnation else ""
    return f"{cluster_id}/{origin.topic_id.hex()}/{origin.partition}{incarnation}/{origin.offset}"


def parse_result_id(text: str, cluster_id: str) -> Origin | None:
    """The message that a result of this cluster answers; None for any other text."""
    head, _, rest = text.partition("/")
    try:
        topic_id, place, offset = rest.split("/")
        partition, later, incarnation = place.partition("~")
        if head != cluster_id or (later and int(incarnation) < 1):
            return None
        return Origin(bytes.fromhex(topic_id), int(partition), int(incarnation) if later else 0, int(offset))
    except ValueError:
        return None


def file_name(deployment: str, batch_id: uuid.UUID, sha256: bytes) -> str:
    """The provider file's name: the same bytes of the same batch always get the same name (B2)."""
    return f"penstock-{deployment}-{batch_id.hex}-{sha256.hex()}.jsonl"


def batch_of_file(deployment: str, name: str) -> uuid.UUID | None:
    """The batch that a provider file of this deployment was written for; None for anybody else's file."""
    prefix = f"penstock-{deployment}-"
    if not name.startswith(prefix):
        return None
    try:
        return uuid.UUID(hex=name.removeprefix(prefix)[:32])
    except ValueError:
        return None


def slot_prefix(deployment: str) -> str:
    """What the publisher's transactional ids begin with."""
    return f"penstock-{deployment}-slot-"


def transactional_id(deployment: str, slot: int) -> str:
    """The publisher's transactional id for a slot."""
    return f"{slot_prefix(deployment)}{slot}"


def slot_of(batch_id: uuid.UUID, slots: int) -> int:
    """The slot that a new batch gets and keeps."""
    return batch_id.int % slots
