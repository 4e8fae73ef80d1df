"""What a simulator can be told at its start."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

DAY_SECONDS = 86_400


class Delays(msgspec.Struct, frozen=True):
    """How long a batch stays in each status that passes, in seconds."""

    validating: float = 0.0
    in_progress: float = 0.0
    finalizing: float = 0.0
    cancelling: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the API refuses to go beyond."""

    file_bytes: int = 512_000_000
    batch_file_bytes: int = 200_000_000
    batch_requests: int = 50_000
    embedding_inputs: int = 50_000
    storage_bytes: int = 2_500_000_000_000
    uploads_per_minute: int = 1_000
    creates_per_hour: int = 2_000
    enqueued_tokens: dict[str, int] = field(default_factory=dict)
    enqueued_inputs: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """A simulator's settings. No `models` means that all exist; no `seed` means a random one, kept in `state`."""

    state: Path
    api_key: str | None = None
    seed: str | None = None
    delays: Delays = field(default_factory=Delays)
    jitter: float = 0.0
    window_seconds: float = DAY_SECONDS
    limits: Limits = field(default_factory=Limits)
    models: frozenset[str] = frozenset()
    embedding_dimensions: int = 8
    organization: str = "org-batchsim"
    webhook_url: str | None = None
    webhook_secret: str | None = None
