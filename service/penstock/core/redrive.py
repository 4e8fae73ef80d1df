"""Dead letters as requests again: what a redrive sends, and which letters it leaves alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

Headers = Sequence[tuple[str, bytes | None]]

ORIGIN_HEADER = "penstock-redriven-from"
"""On a request that was a dead letter: topic/partition/offset of the message that it was first."""
RUN_HEADER = "penstock-redrive"
"""On such a request: the transaction that sent it, by which an interrupted redrive finds what it did."""
OURS_FROM = "penstock-result-id"
"""The first of the headers that Penstock put behind the message's own."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, read from its headers."""

    code: str
    topic: str
    """The request topic that the message came from."""
    origin: str
    """Where it was first: topic/partition/offset, also when it has been redriven before."""
    cut: bool
    """Its value, key or headers are not whole, because its topic would not take them."""
    headers: tuple[tuple[str, bytes | None], ...]
    """The message's own."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant; what is empty or None does not limit."""

    codes: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, letter: Letter, at: datetime) -> bool:
        """Whether a dead letter of this time is meant."""
        return (
            (not self.codes or letter.code in self.codes)
            and (not self.topics or letter.topic in self.topics)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
        )


def read_letter(headers: Headers) -> Letter | None:
    """A dead letter from a record's headers; None for what is none of ours."""
    places = [place for place, (name, _) in enumerate(headers) if name == OURS_FROM]
    if not places:
        return None
    own, ours = headers[: places[-1]], dict(headers[places[-1] :])
    if not {"penstock.error.code", "penstock.origin.topic"} <= ours.keys():
        return None
    topic, partition, offset = (text(ours.get(f"penstock.origin.{name}")) for name in ("topic", "partition", "offset"))
    earlier = [text(value) for name, value in own if name == ORIGIN_HEADER]
    return Letter(
        text(ours["penstock.error.code"]),
        topic,
        earlier[0] if earlier else f"{topic}/{partition}/{offset}",
        any(name.startswith("penstock.truncated.") for name in ours),
        tuple((name, value) for name, value in own if name not in (ORIGIN_HEADER, RUN_HEADER)),
    )


def request_headers(letter: Letter, run: str) -> list[tuple[str, bytes | None]]:
    """The headers of the request that a dead letter becomes."""
    return [*letter.headers, (ORIGIN_HEADER, letter.origin.encode()), (RUN_HEADER, run.encode())]


def text(value: bytes | None) -> str:
    """A header's value."""
    return (value or b"").decode(errors="replace")
