"""What the provider does wrong for a while: fault rules of the simulator, by the kind of trouble they are."""

from collections.abc import Sequence
from typing import Any

Rule = dict[str, Any]


def batch(times: int | None = None, probability: float = 0.5, when: Rule | None = None, **outcome: Any) -> Rule:
    """A rule for batches that are created."""
    rule: Rule = {"batch": outcome, "probability": probability, "when": when or {}}
    return rule if times is None else {**rule, "times": times}


def call(operation: str, probability: float, query: dict[str, str] | None = None, **fault: Any) -> Rule:
    """A rule for calls."""
    when = {"query": query} if query else {}
    return {"operation": operation, "probability": probability, "when": when, "http": fault}


def lines(*faults: Rule) -> Rule:
    """A rule for lines of batches."""
    return batch(lines=list(faults))


def failed(code: str, times: int | None = None, **failure: Any) -> Rule:
    """A rule for batches that fail at validation."""
    return batch(times, end="failed", failure={"code": code, **failure})


def announced(probability: float, **fault: Any) -> Rule:
    """A rule for webhooks."""
    return {"operation": "batch.*", "probability": probability, "webhook": fault}


RETRY_AFTER = {"retry-after": "2"}
STORMS: dict[str, Sequence[Rule]] = {
    "429 with Retry-After": [call("*", 0.5, status=429, headers=RETRY_AFTER)],
    "5xx with Retry-After": [call("*", 0.4, status=503, headers=RETRY_AFTER)],
    "creates that land and lose their answer": [call("batches.create", 0.7, drop=True, effect="done")],
    "creates that are lost": [call("batches.create", 0.7, drop=True)],
    "creates that land late": [
        call("batches.create", 0.3, effect="late", late_seconds=3),
        call("batches.create", 0.3, effect="late", late_seconds=20),
    ],
    "uploads that lose their answer": [call("files.create", 0.6, drop=True, effect="done")],
    "answers past the time-out": [call("*", 0.1, delay_seconds=7)],
    "stale lists": [
        call("batches.list", 0.9, hide_newer_than_seconds=30),
        call("batches.create", 0.4, drop=True, effect="done"),
    ],
    "lists that fail on page 2": [
        call("batches.list", 0.9, {"after": "*"}, status=500),
        call("batches.create", 0.4, drop=True, effect="done"),
    ],
    "downloads that are cut": [
        call("files.content", 0.4, cut_after_bytes=1500),
        call("files.content", 0.4, truncate_to_bytes=1500),
    ],
    "missing lines": [lines({"fraction": 0.2, "defect": "missing"})],
    "doubled, strange and reordered lines": [
        batch(
            reordered=True,
            lines=[
                {"count": 2, "defect": each}
                for each in ("in_both_files", "twice", "unknown_custom_id", "body_as_string")
            ],
        )
    ],
    "failing lines": [lines({"fraction": 0.3, "status_code": 429}, {"fraction": 0.3, "status_code": 500})],
    "expiry with partial results": [batch(end="expired", done_fraction=0.6)],
    "cancelled by somebody else": [batch(end="cancelled", done_fraction=0.4)],
    "one bad line at validation": [failed("invalid_request", message="Line 1 is bad.", param="body.model", line=1)],
    "token_limit_exceeded": [
        failed("token_limit_exceeded", times=2, message="Too much is enqueued."),
        failed("token_limit_exceeded", times=2, message="Limit: 200,000 enqueued tokens."),
    ],
    "Cannot find file": [failed("invalid_request", times=4, message="Cannot find file.")],
    "stuck finalizing": [batch(3, stuck="finalizing")],
    "cancels that never seem to end": [batch(3, stuck="in_progress", seconds={"cancelling": 25})],
    "webhooks that never come": [announced(0.8, copies=0)],
    "webhooks doubled and out of order": [announced(0.4, copies=3), announced(0.4, delay_seconds=4)],
    "webhooks forged, unsigned, old or too large": [
        announced(0.2, signature="forged"),
        announced(0.2, signature="missing"),
        announced(0.2, age_seconds=400),
        announced(0.2, padding_bytes=300_000),
    ],
    "output files that vanish": [batch(3, vanished=["output"])],
    "unknown statuses and null fields": [
        batch(
            show={
                "in_progress": {"status": "quantum_leap", "output_file_id": ""},
                "*": {"request_counts": None, "usage": None, "error_file_id": ""},
            }
        )
    ],
}
"""The kinds of trouble, each by its name in the report."""
ALWAYS: Sequence[Rule] = [
    batch(probability=0.2, lines=[{"fraction": 0.05, "status_code": 429}, {"count": 1, "status_code": 400}])
]
"""What goes wrong on a good day."""
