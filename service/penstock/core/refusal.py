"""What a provider's refusal of a call concerns, and so what is to be done about it. The table is data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

UPLOAD, CREATE = "files.create", "batches.create"
SENDS = frozenset({UPLOAD, CREATE})
"""The calls whose refusal decides what becomes of a batch; a refused read or clean-up only fails for now."""
LINE = re.compile(r"\bline[ :#]+(\d{1,6})\b", re.IGNORECASE)
SHARED_FAULTS = frozenset({"model_not_found", "invalid_url", "invalid_endpoint", "url_mismatch"})
"""Codes about what all lines of a batch share: its model or its url."""
ACCOUNT_FAULTS = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes about the account's money, with whatever status, at a call or at a batch's validation."""
TOKEN_LIMIT = "token_limit_exceeded"  # noqa: S105 - a code, no secret


class Concern(StrEnum):
    """What a refusal is about."""

    ACCOUNT = "account"
    """The account may not call at all: halt it, answer nothing, try one call at growing intervals."""
    CONFIGURATION = "configuration"
    """The base URL leads elsewhere: nothing was executed. Handled as ACCOUNT."""
    QUOTA = "quota"
    """Enqueued tokens ran out: learn the limit and send the batch again, cut to it."""
    SIZE = "size"
    """The file is too large: split the batch; a single request is answered."""
    FILE = "file"
    """The provider does not see the uploaded file: use it again, then upload anew, until the deadline."""
    MOMENT = "moment"
    """The provider is busy or broken: back off. A create may have taken effect after 408 and 5xx."""
    REQUEST = "request"
    """One line is at fault: answer it, send the others."""
    LANE = "lane"
    """The model or url is at fault: answer every request of the batch."""
    OBJECT = "object"
    """The object is not there (404), which is no status of a batch."""
    UNKNOWN = "unknown"
    """Nobody foresaw it: halt the lane with the provider's words, answer nothing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer that says no; ``code`` and ``message`` are the provider's, empty when it gave none."""

    operation: str
    status: int
    code: str = ""
    message: str = ""
    line: int | None = None
    """The line of the file that the answer names, from 1."""


@dataclass(frozen=True, slots=True)
class RefusalRule:
    """A row of the table: every condition that is given must hold; ``words`` and ``codes`` are alternatives."""

    concern: Concern
    operations: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    line: bool = False

    def matches(self, refusal: Refusal) -> bool:
        """Whether the row speaks of a refusal."""
        if self.operations and refusal.operation not in self.operations:
            return False
        if self.statuses and refusal.status not in self.statuses:
            return False
        if self.line and refusal.line is None:
            return False
        if not self.codes and self.words is None:
            return True
        return refusal.code in self.codes or bool(self.words and self.words.search(refusal.message))


TABLE = (
    RefusalRule(Concern.CONFIGURATION, statuses=frozenset(range(300, 400))),
    RefusalRule(Concern.ACCOUNT, statuses=frozenset({401, 402, 403})),
    RefusalRule(Concern.ACCOUNT, codes=ACCOUNT_FAULTS),
    RefusalRule(
        Concern.ACCOUNT,
        operations=frozenset({UPLOAD}),
        codes=frozenset({"quotaExceeded", "storage_limit_exceeded"}),
        words=re.compile(r"storage (quota|limit|is full)|out of storage", re.IGNORECASE),
    ),
    RefusalRule(
        Concern.QUOTA,
        operations=frozenset({CREATE}),
        statuses=frozenset({400, 429}),
        codes=frozenset({TOKEN_LIMIT}),
    ),
    RefusalRule(Concern.SIZE, operations=SENDS, statuses=frozenset({413})),
    RefusalRule(Concern.LANE, operations=frozenset({CREATE}), statuses=frozenset({400, 404}), codes=SHARED_FAULTS),
    RefusalRule(Concern.REQUEST, operations=SENDS, statuses=frozenset({400}), line=True),
    RefusalRule(
        Concern.SIZE,
        operations=SENDS,
        statuses=frozenset(range(400, 429)),
        words=re.compile(r"file is too large", re.IGNORECASE),
    ),
    RefusalRule(
        Concern.FILE,
        operations=frozenset({CREATE}),
        statuses=frozenset({400, 404}),
        codes=frozenset({"file_not_found"}),
        words=re.compile(
            r"(cannot|can't|could not) find file|no such file|file\b.*\bnot (found|processed|ready|exist)",
            re.IGNORECASE,
        ),
    ),
    RefusalRule(Concern.MOMENT, statuses=frozenset({408, 429, 498, *range(500, 600)})),
    RefusalRule(
        Concern.OBJECT,
        operations=frozenset({"batches.retrieve", "batches.cancel", "files.retrieve", "files.content", "files.delete"}),
        statuses=frozenset({404}),
    ),
    RefusalRule(Concern.UNKNOWN),
)
"""First match first: codes and named lines before loose words.

A 409 to a cancel is UNKNOWN here; the caller knows what it means.
"""


def concern_of(refusal: Refusal) -> Concern:
    """What a refusal is about."""
    return next(rule.concern for rule in TABLE if rule.matches(refusal))


def line_named(error: Mapping[str, object]) -> int | None:
    """The line of the input file that an error object names in its ``line`` or ``message``, from 1; None for none."""
    line = error.get("line")
    if isinstance(line, int) and not isinstance(line, bool):
        return line if line > 0 else None
    found = LINE.search(str(error.get("message") or ""))
    return int(found[1]) or None if found else None


FIXES = (
    (frozenset({"redirect"}), "set the account's base URL to that host"),
    (
        ACCOUNT_FAULTS | {"402"},
        "raise the account's budget at the provider, or settle its bill",
    ),
)
STORAGE_FIX = "delete files at the provider, or wait: files of published batches are deleted after their grace"
KEY_FIX = "check the account's key, its project and its rights to files and batches"


def account_fix(operation: str, code: str) -> str:
    """What an operator does about an account that the provider refuses; it then goes on by itself."""
    for codes, fix in FIXES:
        if code in codes:
            return fix
    return STORAGE_FIX if operation == UPLOAD and code not in {"401", "403", "invalid_api_key"} else KEY_FIX
