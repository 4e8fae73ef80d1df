"""The closing report: what went in, what came out, how long it took, what it cost."""

import json
from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from penstock.core.excerpt import excerpt, shortened
from penstock.demo.progress import Progress
from penstock.demo.screen import Screen
from penstock.demo.tally import Tally


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of an ordered sequence does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def show_samples(screen: Screen, tally: Tally) -> None:
    """One result of each model, and every kind of dead letter."""
    made = Table("custom_id", "model", "answer", title="Some results", title_justify="left", box=None, pad_edge=False)
    for model, (custom_id, body) in sorted(tally.samples.items()):
        made.add_row(shortened(custom_id), model, shortened(excerpt(json.loads(body))))
    screen.show(made)
    screen.show("")
    reasons = sorted({each.reason for each in tally.dead_letters})
    if reasons:
        screen.show("[bold]Dead letters say what to mend[/]")
    for reason in reasons:
        screen.show(f"  {reason}")
    screen.show("")


def show_report(screen: Screen, progress: Progress) -> None:
    """The figures."""
    tally, totals = progress.tally, progress.totals
    latencies = tally.latencies_seconds()
    dead = len(tally.dead_letters)
    errors = f", {tally.errors:,} of them errors" if tally.errors else ""
    cost, saved = float(totals.get("cost_usd", 0.0)), progress.saved_usd
    made = Table.grid(padding=(0, 2))
    for name, text in (
        ("requests in", f"{len(tally.requests):,}"),
        ("results out", f"{len(tally.answers) - dead:,}{errors}"),
        ("dead letters", f"{dead:,}"),
        ("batches", f"{totals.get('batches_published', 0):,}"),
        ("latency", f"median {percentile(latencies, 0.5):.1f} s, p99 {percentile(latencies, 0.99):.1f} s"),
        ("tokens", f"{totals.get('input_tokens', 0):,} in, {totals.get('output_tokens', 0):,} out"),
        ("cost", f"${cost:.4f} by batch, ${cost + saved:.4f} one by one: ${saved:.4f} saved"),
        ("", progress.unpriced),
    ):
        if not text:
            continue
        made.add_row(f"[bold]{name}[/]", text)
    screen.show(made)
    screen.show("")


def show_storm(screen: Screen, seed: str, met: Mapping[str, int]) -> None:
    """How often each fault was met."""
    screen.show(f"[bold]The storm of seed {escape(seed)}[/]: {sum(met.values())} faults of {len(met)} kinds")
    made = Table.grid(padding=(0, 2))
    made.add_column(justify="right")
    for name, count in sorted(met.items()):
        made.add_row(str(count), escape(name))
    screen.show(made)
    screen.show("")
