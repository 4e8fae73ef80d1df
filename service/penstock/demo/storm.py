"""A storm for the demonstration: every kind of fault that the simulator makes, dealt out by a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

Fault = dict[str, Any]

OVERDUE: Fault = {"*": {"expires_at": 1}}
TRY_LATER = {"retry-after": "1"}
BATCHES: Mapping[str, Fault] = {
    "lines that fail: 400, 429, 500 and status code 0": {
        "lines": [{"count": 3, "status_code": 400}, *({"fraction": 0.1, "status_code": each} for each in (429, 500, 0))]
    },
    "lines that were never executed": {"lines": [{"fraction": 0.2, "code": "request_timeout"}]},
    "lines in neither file": {"lines": [{"count": 5, "defect": "missing"}]},
    "lines in both files": {"lines": [{"count": 5, "defect": "in_both_files"}]},
    "lines twice": {"lines": [{"count": 5, "defect": "twice"}]},
    "lines that nobody asked for": {"lines": [{"count": 5, "defect": "unknown_custom_id"}]},
    "answers as JSON strings": {"lines": [{"count": 5, "defect": "body_as_string"}]},
    "all lines failed, no output file": {"lines": [{"status_code": 503}]},
    "output in another order at the second download": {"reordered": True},
    "expired, with partial results": {"end": "expired", "done_fraction": 0.4},
    "cancelled by somebody else, with partial results": {"end": "cancelled", "done_fraction": 0.6},
    "cancelled, and finished lines lost": {
        "end": "cancelled",
        "done_fraction": 0.5,
        "lines": [{"count": 3, "defect": "missing"}],
    },
    "failed: one bad line": {
        "end": "failed",
        "failure": {"code": "invalid_request", "message": "Line 7 is bad.", "param": "body.model", "line": 7},
    },
    "failed: enqueued tokens": {
        "end": "failed",
        "failure": {"code": "token_limit_exceeded", "message": "Limit: 20,000,000 enqueued tokens."},
    },
    "failed: cannot find file": {"end": "failed", "failure": {"code": "invalid_request"}},
    "stuck in validating": {"stuck": "validating", "show": OVERDUE},
    "stuck in finalizing": {"stuck": "finalizing", "show": OVERDUE},
    "stuck in cancelling": {"stuck": "cancelling", "end": "cancelled", "done_fraction": 0.5, "show": OVERDUE},
    "completed without any file": {"show": {"completed": {"output_file_id": None, "error_file_id": None}}},
    "output file not there": {"vanished": ["output"]},
    "empty-string ids, null counts, no expiry": {
        "show": {
            "in_progress": {"output_file_id": "", "error_file_id": ""},
            "*": {"request_counts": None, "usage": None, "expires_at": None},
        }
    },
    "a status that nobody knows": {"show": {"in_progress": {"status": "quantum_leap"}}},
    "statuses in another spelling": {"show": {each: {"status": each.title()} for each in ("in_progress", "completed")}},
    "times as text": {"show": {"*": {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"}}},
    "an output file that is named seconds after the end": {"late_file_ids": {"output": 2}},
    "an error file that is named seconds after the end": {
        "late_file_ids": {"error": 2},
        "lines": [{"count": 3, "status_code": 400}],
    },
    "lines of other shapes": {
        "lines": [
            {"count": 2, "written": {"error": "text"}, "status_code": 400},
            {"count": 2, "written": {"response.status_code": "200"}},
            {"count": 2, "written": {"response": "text"}},
            {"count": 2, "defect": "cut"},
        ]
    },
    "lines that name no request": {"lines": [{"count": 2, "written": {"custom_id": None}}]},
    "empty files": {"empty_files": True},
}
"""What becomes of a batch."""
CALLS: Mapping[str, tuple[str, int, Fault]] = {
    "create refused: 429": ("batches.create", 1, {"status": 429, "headers": TRY_LATER}),
    "create answered 500, not made": ("batches.create", 1, {"status": 500}),
    "create answered 500, made": ("batches.create", 1, {"status": 500, "effect": "done"}),
    "create not answered, not made": ("batches.create", 1, {"drop": True}),
    "create not answered, made": ("batches.create", 1, {"drop": True, "effect": "done"}),
    "create not answered, made seconds later": ("batches.create", 1, {"effect": "late", "late_seconds": 2}),
    "create refused: cannot find file": ("batches.create", 1, {"status": 400, "message": "Cannot find file file-1."}),
    "create refused: a hard limit of the bill": (
        "batches.create",
        1,
        {"status": 400, "code": "billing_hard_limit_reached"},
    ),
    "create refused: enqueued tokens": ("batches.create", 1, {"status": 429, "code": "token_limit_exceeded"}),
    "create refused: nobody knows why": ("batches.create", 1, {"status": 409}),
    "create redirected": ("batches.create", 1, {"status": 308, "headers": {"location": "http://127.0.0.1:9/"}}),
    "create sent twice on its way": ("batches.create", 1, {"copies": 2}),
    "create answered 500, made, metadata lost": (
        "batches.create",
        1,
        {"status": 500, "effect": "done", "without": ["metadata"]},
    ),
    "upload refused: too large": ("files.create", 1, {"status": 413}),
    "upload refused: the key": ("files.create", 1, {"status": 401}),
    "search for a file takes few at a time": ("files.list", 5, {"limit_max": 100}),
    "size of a file not told": ("files.retrieve", 3, {"status": 500}),
    "size of a file told wrongly": ("files.retrieve", 2, {"bytes_off": 2570}),
    "list shows statuses as they were": ("batches.list", 10, {"listed_status": "in_progress"}),
    "list does not say whether there is more": ("batches.list", 5, {"without": ["has_more"]}),
    "list takes few at a time": ("batches.list", 3, {"limit_max": 20}),
    "not found, as 500": ("batches.retrieve", 2, {"missing_status": 500}),
    "download refused: the key": ("files.content", 1, {"status": 403}),
    "upload cut": ("files.create", 3, {"drop": True}),
    "upload stored short": ("files.create", 1, {"keep_bytes": 1000}),
    "upload refused: storage is full": (
        "files.create",
        1,
        {"status": 400, "message": "You have exceeded your file storage quota."},
    ),
    "list stale": ("batches.list", 10, {"hide_newer_than_seconds": 60}),
    "list failed": ("batches.list", 3, {"status": 500}),
    "poll dropped": ("batches.list", 3, {"drop": True}),
    "poll rate limited": ("batches.list", 3, {"status": 429, "headers": TRY_LATER}),
    "batch not found for a while": ("batches.retrieve", 2, {"status": 404}),
    "download cut": ("files.content", 2, {"cut_after_bytes": 20_000}),
    "download short without a sign": ("files.content", 1, {"truncate_to_bytes": 20_000}),
    "download corrupt": ("files.content", 1, {"corrupt_at_byte": 20_000}),
    "overloaded: 503": ("*", 6, {"status": 503, "headers": TRY_LATER}),
}
"""What becomes of calls: the operation, how often, and the fault."""
EXPECTED = frozenset(
    {
        "account.denied",
        "batch.abandoned",
        "batch.duplicated",
        "batch.stuck",
        "file.gone",
        "lane.halted",
        "lines.lost",
        "results.unreadable",
    }
)
"""What the service reports as errors in such a storm: something is refused, paid twice or given up."""
SPACING = 3
"""Of calls of one operation, so many are answered well between two kinds of fault."""


@dataclass(frozen=True, slots=True)
class Storm:
    """The faults of a seed.

    Attributes:
        seed: of the simulator's own chance, too.
        names: of the faults, in the order of `rules`.
        rules: as the simulator takes them.
    """

    seed: str
    names: Sequence[str]
    rules: Sequence[Fault]

    @classmethod
    def of(cls, seed: str) -> "Storm":
        """Deal every kind of fault out once: to one of the first batches, or to some calls amid others."""
        chance = Random(seed)  # noqa: S311 - repeatable, not secret
        found: list[tuple[str, Fault]] = []
        for name, outcome in chance.sample(sorted(BATCHES.items()), len(BATCHES)):
            found.append((name, {"batch": outcome, "times": 1, "nth": len(found) + 1}))
        places: dict[str, int] = {}
        for name, (operation, times, fault) in chance.sample(sorted(CALLS.items()), len(CALLS)):
            places[operation] = nth = places.get(operation, 0) + chance.randint(1, SPACING)
            found.append((name, {"operation": operation, "http": fault, "nth": nth, "times": times}))
        return cls(seed, [name for name, _ in found], [rule for _, rule in found])
