"""What the checker found."""

from collections import Counter
from enum import StrEnum

import msgspec

SHOWN_MAX = 20


class Kind(StrEnum):
    """The ways in which a run can be wrong."""

    LOST = "lost"
    DOUBLED = "doubled"
    ORPHANED = "orphaned"
    CROSSED = "crossed"
    CUSTOM_ID_CHANGED = "custom_id_changed"
    KEY_CHANGED = "key_changed"
    DEAD_LETTER_CHANGED = "dead_letter_changed"
    SEEN_AND_GONE = "seen_and_gone"
    SEEN_TWICE = "seen_twice"
    EXECUTED_TWICE = "executed_twice"
    EXECUTED_UNASKED = "executed_unasked"
    TRANSACTION_OPEN = "transaction_open"
    CANARY_TOLD = "canary_told"


MEANINGS = {
    Kind.LOST: "messages without a result or dead letter",
    Kind.DOUBLED: "messages with more than one result or dead letter",
    Kind.ORPHANED: "results or dead letters that belong to no message",
    Kind.CROSSED: "results that are not the answer to their message",
    Kind.CUSTOM_ID_CHANGED: "results with another custom_id",
    Kind.KEY_CHANGED: "results or dead letters with another key",
    Kind.DEAD_LETTER_CHANGED: "dead letters that are not their message",
    Kind.SEEN_AND_GONE: "results that a reader saw and that are not there",
    Kind.SEEN_TWICE: "results that a reader saw more than once",
    Kind.EXECUTED_TWICE: "messages executed and paid more than once, beyond what is allowed",
    Kind.EXECUTED_UNASKED: "executions of a body that no message holds",
    Kind.TRANSACTION_OPEN: "partitions that end in an open transaction",
    Kind.CANARY_TOLD: "places where a canary stands",
}


class Found(msgspec.Struct):
    """How often something is wrong, and the first places."""

    count: int = 0
    first: list[str] = []


class Report(msgspec.Struct):
    """The checker's verdict. Figures are plain counts; `violations` holds ids and places only, never a value."""

    messages: int = 0
    results: int = 0
    dead_letters: int = 0
    aborted: int = 0
    seen: int = 0
    executions: int = 0
    extra_executions: int = 0
    unjudged: int = 0
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    errors: Counter[str] = msgspec.field(default_factory=Counter)
    dead_letter_codes: Counter[str] = msgspec.field(default_factory=Counter)
    violations: dict[Kind, Found] = {}

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations

    def violate(self, kind: Kind, what: str) -> None:
        """Note that something is wrong."""
        found = self.violations.setdefault(kind, Found())
        found.count += 1
        if len(found.first) < SHOWN_MAX:
            found.first.append(what)

    def as_json(self) -> str:
        """For programs."""
        return msgspec.json.encode({"clean": self.clean, **msgspec.to_builtins(self)}).decode()

    def as_text(self) -> str:
        """For people."""
        lines = [
            f"{self.messages} messages: {self.results} results, {self.dead_letters} dead letters",
            f"{self.aborted} records of aborted transactions",
            f"{self.executions} paid executions, {self.extra_executions} of them extra; {self.seen} seen by a reader",
        ]
        for title, counter in (
            ("answers by status", self.statuses),
            ("errors by code", self.errors),
            ("dead letters by code", self.dead_letter_codes),
        ):
            if counter:
                lines.append(f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counter.items())))
        if self.unjudged:
            lines.append(f"{self.unjudged} values could not be held against their message")
        for kind, found in self.violations.items():
            lines.append(f"WRONG: {found.count} {kind}: {MEANINGS[kind]}")
            lines += [f"    {what}" for what in found.first]
        lines.append("clean" if self.clean else "NOT CLEAN")
        return "\n".join(lines)
