"""Faults on demand: rules that say when something goes wrong, and what.

A rule has conditions (`operation`, `when`, `nth`, `times`, `probability`) and exactly one effect: `http` for what
happens to an HTTP call, `batch` for what becomes of a batch, `webhook` for how its end is announced. Effects are made
of independent parts, so they combine.
"""

from typing import Any, Literal

import msgspec


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a call or a batch must look like. Values are shell patterns; all that are given must match.

    `path`, `query`, `key` (the API key that was sent) and `body_bytes_min` (the request's Content-Length is at least
    so much) speak of HTTP calls, the rest of batches. A query or metadata pattern matches only where its key is there.
    """

    path: str = "*"
    key: str = "*"
    query: dict[str, str] = {}
    body_bytes_min: int = 0
    endpoint: str = "*"
    model: str = "*"
    metadata: dict[str, str] = {}


class HttpFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to an HTTP call.

    The call waits `delay_seconds`. Its effect is `done`, `none`, or `late`: after `late_seconds`, the connection being
    dropped at once. The answer comes `answer_delay_seconds` after the effect: it is the real one, or an error with
    `status`, or none (`drop`). `cut_after_bytes` breaks the connection inside the answer's body; `truncate_to_bytes`
    ends the body early, as if it were whole; `corrupt_at_byte` inverts that byte of it, counted from 0.
    `hide_newer_than_seconds` makes a list stale, a list takes no `limit` above `limit_max`, and `first_page` makes it
    show its first page whatever comes `after`, and say that there is more. Of an upload only the
    first `keep_bytes` are stored. A create makes so many `copies` of its batch, as behind a proxy that sends it again,
    and answers with the last one. `without` leaves fields out of a JSON answer.
    `listed_status` is the status that a list of batches shows of each, without files, while retrieve tells the truth.
    `bytes_off` is added to the size that a file is said to have. `missing_status` replaces an answer of 404, as some
    proxies do.
    """

    delay_seconds: float = 0.0
    effect: Literal["done", "none", "late"] | None = None
    late_seconds: float = 0.0
    answer_delay_seconds: float = 0.0
    drop: bool = False
    status: int | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None
    headers: dict[str, str] = {}
    cut_after_bytes: int | None = None
    truncate_to_bytes: int | None = None
    corrupt_at_byte: int | None = None
    hide_newer_than_seconds: float = 0.0
    keep_bytes: int | None = None
    limit_max: int | None = None
    first_page: bool = False
    copies: int = 1
    without: tuple[str, ...] = ()
    listed_status: str | None = None
    bytes_off: int = 0
    missing_status: int | None = None

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError("a create makes at least one copy of its batch")
        if self.drop and self.status is not None:
            raise ValueError("an HTTP fault either drops the answer or has a status")
        if self.effect == "late" and self.status is not None:
            raise ValueError("a late effect has no answer, hence no status")
        if self.effect == "none" and not self.drop and self.status is None:
            raise ValueError("a call without effect needs a status or drop")

    @property
    def takes_effect(self) -> bool:
        """Whether the call is carried out, now or later; dropped and refused calls are not, unless told to."""
        return self.effect in {"done", "late"} or (self.effect is None and not self.drop and self.status is None)


class LineFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What becomes of some lines: of `count` lines, or of a `fraction` of all, or of all that no earlier fault took.

    With `status_code` the request was tried and failed; with `code` alone it was never executed. A `defect` concerns
    lines that were executed, counted and billed, but whose result is written wrongly: `cut` ends the line in its
    middle. `written` replaces members of the line, by name (`custom_id`, `error`, `response`, or inside of it
    `response.status_code`), in whatever type; it goes with a failure, too. Members in `without` are left out.
    """

    fraction: float | None = None
    count: int | None = None
    status_code: int | None = None
    code: str | None = None
    message: str | None = None
    defect: Literal["missing", "in_both_files", "twice", "unknown_custom_id", "body_as_string", "cut"] | None = None
    written: dict[str, Any] = {}
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        failure = self.status_code is not None or self.code is not None
        odd = bool(self.written or self.without)
        if (failure and self.defect is not None) or not (failure or odd or self.defect is not None):
            raise ValueError("a line fault has either a status_code or code, or a defect")
        if self.fraction is not None and self.count is not None:
            raise ValueError("a line fault has a fraction or a count, not both")


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Why a batch fails at validation; message and param default to what goes with the code.

    With `contains` it fails only by a line with that text in it, the first one, wherever that line is sent again.
    """

    code: str
    message: str | None = None
    param: str | None = None
    line: int | None = None
    contains: str | None = None

    def __post_init__(self) -> None:
        if self.contains is not None and self.line is not None:
            raise ValueError("a failure has a line, or the text that its line contains")


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What becomes of a batch.

    `end` is the status it ends with; `done_fraction` of its requests are executed before it expires or is cancelled
    (default: by elapsed time when a client cancels it or its window ends, else a half). `stuck` is a status it never
    leaves by itself. `seconds` replace the configured delays. `show` replaces fields of the batch object, by status or
    for all statuses ("*"). `vanished` files exist in the batch object only. `reordered` shows the output's lines in
    another order from its second download on. `empty_files` are there where others have a null id. The ids of its files
    appear `late_file_ids` seconds after its end, by kind of file.
    """

    end: Literal["completed", "expired", "cancelled", "failed"] = "completed"
    done_fraction: float | None = None
    failure: Failure | None = None
    stuck: Literal["validating", "in_progress", "finalizing", "cancelling"] | None = None
    seconds: dict[Literal["validating", "in_progress", "finalizing", "cancelling"], float] = {}
    lines: tuple[LineFault, ...] = ()
    show: dict[str, dict[str, Any]] = {}
    vanished: tuple[Literal["output", "error"], ...] = ()
    reordered: bool = False
    empty_files: bool = False
    late_file_ids: dict[Literal["output", "error"], float] = {}

    def __post_init__(self) -> None:
        if (self.end == "failed") != (self.failure is not None):
            raise ValueError('an outcome with end "failed" needs a failure, and only that one')


class WebhookFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the end of a batch is announced.

    In so many `copies` (0: not at all), `delay_seconds` later; with a signature by another key (`forged`) or with none
    (`missing`); with a timestamp of `age_seconds` ago, or ahead if that is negative; with `padding_bytes` spaces behind
    the event.
    """

    copies: int = 1
    delay_seconds: float = 0.0
    signature: Literal["right", "forged", "missing"] = "right"
    age_seconds: float = 0.0
    padding_bytes: int = 0


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A fault and its conditions.

    `operation` is a shell pattern: of operation names (`files.create`, `batches.*`) for `http`, of event types
    (`batch.completed`) for `webhook`. The rule is silent before the `nth`
    match, fires at most `times` times (once if only `nth` is given, else without end), each time with `probability`.
    """

    operation: str = "*"
    when: When = When()
    nth: int | None = None
    times: int | None = None
    probability: float = 1.0
    http: HttpFault | None = None
    batch: Outcome | None = None
    webhook: WebhookFault | None = None

    def __post_init__(self) -> None:
        if sum(effect is not None for effect in (self.http, self.batch, self.webhook)) != 1:
            raise ValueError("a rule has exactly one of http, batch and webhook")

    @property
    def is_conditional(self) -> bool:
        """Whether it depends on counts if the rule fires."""
        return self.nth is not None or self.times is not None or self.probability < 1

    @property
    def times_max(self) -> int | None:
        """How often the rule fires at most; None for no limit."""
        return 1 if self.times is None and self.nth is not None else self.times


class CountedRule(msgspec.Struct):
    """A rule with how often its conditions were met (`matched`) and how often it fired."""

    rule: Rule
    matched: int = 0
    fired: int = 0
