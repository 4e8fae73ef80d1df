"""What a soak has seen, for the terminal and for docs/soak.md."""

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.soak.schedule import What
from tests.support.machine import machine, today
from tests.support.payments import Payments


@dataclass(slots=True)
class Summary:
    """The figures of a run, and what is wrong with it."""

    seed: str
    minutes: float
    rate: float
    checked: dict[str, Any] = field(default_factory=dict)
    payments: Payments = field(default_factory=Payments)
    done: Counter[What] = field(default_factory=Counter)
    starts_in_vain: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    peak_mib: float = 0.0
    thirds_mib: tuple[float, float] = (0.0, 0.0)
    drain_seconds: float = 0.0
    latencies: Iterable[float] = ()
    problems: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """What repeats the run."""
        return f"make soak MINUTES={self.minutes:g} SEED={self.seed}"

    def as_markdown(self) -> str:
        """The page."""
        checked, extra = self.checked, self.payments.extra
        violations = checked.get("violations", {})
        sound = {kind: violations.get(kind, {}).get("count", 0) for kind in ("lost", "doubled", "crossed", "orphaned")}
        latencies = sorted(self.latencies) or [0.0]
        rows = [
            ("messages", f"{checked.get('messages', 0):,}"),
            ("results", f"{checked.get('results', 0):,}"),
            ("dead letters", f"{checked.get('dead_letters', 0):,}"),
            *((kind, str(count)) for kind, count in sound.items()),
            ("records of aborted transactions", f"{checked.get('aborted', 0):,}"),
            ("latency, faults included", f"median {statistics.median(latencies):.1f} s, p99 {p99(latencies):.0f} s"),
            ("drained after the last fault", f"{self.drain_seconds:.0f} s"),
            ("memory of a replica, most", f"{self.peak_mib:.0f} MiB"),
            ("memory of the replica that is never killed", "{:.0f} MiB, then {:.0f} MiB".format(*self.thirds_mib)),
            ("batches created at the provider", f"{self.batches.total():,}"),
            ("paid executions", f"{checked.get('executions', 0):,}"),
            ("paid more than once, by the checker", f"{checked.get('extra_executions', 0):,}"),
            ("paid in vain, counted by the service", f"{extra.total():,}"),
            *((f"· {cause}", f"{count:,}") for cause, count in extra.most_common()),
            ("paid and not accounted for", str(len(self.payments.unexplained))),
        ]
        return "\n".join(
            [
                f"{today()}, {self.minutes:g} minutes at {self.rate:g} messages a second; {machine()}:",
                f"`{self.command}`",
                "",
                *table("what", rows),
                "",
                *table("done to it", [*((what, str(self.done[what])) for what in What), self.vain]),
                "",
                *table("how batches ended at the provider", counted(self.batches)),
                "",
                *table("the provider's faults, by kind, as often as they struck", counted(self.fired)),
                "",
                *table("errors in the logs", counted(self.errors)),
                "",
            ]
        )

    @property
    def vain(self) -> tuple[str, str]:
        """Starts that came to nothing."""
        return "starts in vain, while a server was away", str(self.starts_in_vain)


def counted(counter: Counter[str]) -> list[tuple[str, str]]:
    """The rows of a counter."""
    return [(what, f"{count:,}") for what, count in sorted(counter.items())]


def table(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    """A table of two columns."""
    return [f"| {title} | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]


def p99(ordered: list[float]) -> float:
    """The 99th percentile of a sorted list."""
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
