"""Cut a partition's log on the disk of a broker that is down, as an unclean election or a crash would."""

import struct
from pathlib import Path

from penstock.embedded.kafka import EmbeddedKafka

HEAD = struct.Struct(">qi")
"""A record batch begins with its first offset and the bytes that follow."""
CHECKPOINTS = ("recovery-point-offset-checkpoint", "replication-offset-checkpoint", ".kafka_cleanshutdown")


def cut_log(kafka: EmbeddedKafka, topic: str, partition: int, end: int) -> None:
    """Leave of a partition only the record batches that begin before an offset."""
    data = kafka.folder / "data"
    folder = data / f"{topic}-{partition}"
    (segment,) = folder.glob("*.log")
    cut_segment(segment, end)
    for pattern in ("*.index", "*.timeindex", "*.txnindex", "*.snapshot"):
        for file in folder.glob(pattern):
            file.unlink()
    for name in CHECKPOINTS:
        (data / name).unlink(missing_ok=True)


def cut_segment(segment: Path, end: int) -> None:
    """Cut a segment before the first batch that begins at an offset or after it."""
    content = segment.read_bytes()
    place = 0
    while place + HEAD.size <= len(content):
        first, size = HEAD.unpack_from(content, place)
        if first >= end or not size:
            break
        place += HEAD.size + size
    segment.write_bytes(content[:place])
