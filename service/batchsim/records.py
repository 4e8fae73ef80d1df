"""Files and batches as they are kept, and as the API shows them."""

from enum import StrEnum
from typing import Any

import msgspec

from batchsim.rules import Outcome, WebhookFault
from batchsim.settings import Delays


class Status(StrEnum):
    """The status of a batch."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.VALIDATING: frozenset({Status.FAILED, Status.IN_PROGRESS, Status.CANCELLING}),
    Status.IN_PROGRESS: frozenset({Status.FINALIZING, Status.EXPIRED, Status.CANCELLING}),
    Status.FINALIZING: frozenset({Status.COMPLETED, Status.CANCELLING}),
    Status.CANCELLING: frozenset({Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.CANCELLED: frozenset(),
}
TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)


class FileRecord(msgspec.Struct):
    """A stored file. Times are Unix seconds; `expires_at` None means never."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None = None


class Usage(msgspec.Struct):
    """Tokens of the successful requests of a batch."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, body: dict[str, Any]) -> None:
        """Count the `usage` of one answer, however its endpoint spells it."""
        usage = body.get("usage")
        if usage is None:
            return
        if "prompt_tokens" in usage:
            self.input_tokens += usage["prompt_tokens"]
            self.output_tokens += usage.get("completion_tokens", 0)
            inputs, outputs = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        else:
            self.input_tokens += usage["input_tokens"]
            self.output_tokens += usage["output_tokens"]
            inputs, outputs = usage.get("input_tokens_details"), usage.get("output_tokens_details")
        if inputs:
            self.cached_tokens += inputs.get("cached_tokens", 0)
        if outputs:
            self.reasoning_tokens += outputs.get("reasoning_tokens", 0)

    def as_object(self) -> dict[str, Any]:
        """As the batch object shows it."""
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": self.input_tokens + self.output_tokens,
        }


class Rejection(msgspec.Struct, frozen=True):
    """Why a batch failed: one entry of its `errors`. `line` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchRecord(msgspec.Struct):
    """A batch and all that decides its life.

    Times are Unix seconds; `tokens` are its estimated prompt tokens, `inputs` those of embeddings.
    """

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None
    output_expires_after_seconds: int | None
    created_at: float
    expires_at: float
    delays: Delays
    outcome: Outcome
    status: Status = Status.VALIDATING
    times: dict[Status, float] = {}
    model: str | None = None
    tokens: int = 0
    inputs: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    done_fraction: float = 1.0
    rejection: Rejection | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.status in TERMINAL

    def enter(self, status: Status, now: float) -> None:
        """Go to another status.

        Raises:
            ValueError: when the present status does not lead there.
        """
        if status not in TRANSITIONS[self.status]:
            raise ValueError(f"{self.id} cannot go from {self.status} to {status}")
        self.status = status
        self.times[status] = now

    def progress(self, now: float) -> float:
        """How much of the work is done, 0 to 1, judged by the time spent in progress."""
        started = self.times.get(Status.IN_PROGRESS)
        if started is None:
            return 0.0
        if Status.FINALIZING in self.times or self.delays.in_progress <= 0:
            return 1.0
        return max(0.0, min(1.0, (now - started) / self.delays.in_progress))


class EndEvent(msgspec.Struct):
    """The end of a batch, to be announced. `fault` is None until it is decided how."""

    position: int
    batch_id: str
    type: str
    created_at: float
    fault: WebhookFault | None = None


def stale_batch_object(record: BatchRecord, now: float, status: str) -> dict[str, Any]:
    """A batch as a list shows it that has missed what became of it."""
    missed = dict.fromkeys(("output_file_id", "error_file_id", "errors", *(f"{each}_at" for each in TERMINAL)))
    return {**batch_object(record, now), **missed, "status": status}


def file_object(record: FileRecord, bytes_off: int = 0) -> dict[str, Any]:
    """A file as the API shows it; its size may be told wrongly."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": max(0, record.bytes + bytes_off),
        "created_at": int(record.created_at),
        "expires_at": None if record.expires_at is None else int(record.expires_at),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(record: BatchRecord, now: float) -> dict[str, Any]:
    """A batch as the API shows it, its outcome's `show` applied. While it runs, the counts grow with time."""
    completed = record.completed if record.is_terminal else int(record.progress(now) * record.total)
    shown: dict[str, Any] = {
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": None,
        "input_file_id": record.input_file_id,
        "completion_window": record.completion_window,
        "status": str(record.status),
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": int(record.created_at),
        "expires_at": int(record.created_at) + round(record.expires_at - record.created_at),
        "request_counts": {"total": record.total, "completed": completed, "failed": record.failed},
        "usage": record.usage.as_object(),
        "metadata": record.metadata,
    }
    for status in Status:
        if status is not Status.VALIDATING:
            time = record.times.get(status)
            shown[f"{status}_at"] = None if time is None else int(time)
    if record.rejection is not None:
        shown["errors"] = {"object": "list", "data": [msgspec.structs.asdict(record.rejection)]}
    for kind, seconds in record.outcome.late_file_ids.items():
        if record.is_terminal and now < record.times[record.status] + seconds:
            shown[f"{kind}_file_id"] = None
    for status_shown in ("*", str(record.status)):
        shown.update(record.outcome.show.get(status_shown, {}))
    return shown
