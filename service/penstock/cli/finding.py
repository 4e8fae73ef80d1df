"""What `penstock check` finds."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Part(StrEnum):
    """What can be looked at by itself."""

    KAFKA = "kafka"
    POSTGRES = "postgres"
    SPOOL = "spool"
    PROVIDER = "provider"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    part: str
    level: Level
    text: str
    mend: str = ""
