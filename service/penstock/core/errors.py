"""The error tree, by what the caller does about it.

PenstockError
├── ConfigurationError      exit at start, naming the variable and its mend
├── RejectedMessage         the message becomes a dead letter
├── UnknownFormat           stored by a newer version: leave it alone, report it
├── Unreadable              a partition's records cannot be decoded: halt that partition
├── WebhookRefused          not the provider's, or not of now: refuse it, count it
├── Superseded              somebody else won (lease, epoch, position): drop the work, start again
├── Halted                  data is at risk: this one thing stops, loudly, until an operator resumes it
└── ProviderError           mapped once at the provider's boundary
    ├── ProviderUnavailable nothing took effect: back off, try again
    ├── ProviderInDoubt     it may have taken effect: look before trying again
    ├── ProviderRefused     a definite no: its concern says what is to be done (`penstock.core.refusal`)
    ├── ProviderMissing     404: not a status, see W1 and W4 of the design
    └── ProviderDenied      the account may not call: its key, its bill, its storage, or a redirect
"""

from penstock.core.refusal import Concern


class PenstockError(Exception):
    """Root of what Penstock raises on purpose."""


class ConfigurationError(PenstockError):
    """Settings are wrong.

    Args:
        problems: each names a variable or a place in a file, and what it takes.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class RejectedMessage(PenstockError):
    """A message that cannot be a request.

    Args:
        code: stable reason code, a metric label and a dead-letter header.
        reason: a sentence that says what to mend; never holds any of the message's content.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class UnknownFormat(PenstockError):
    """A stored record carries a format number this version does not know.

    Args:
        kind: `manifest`, `decision` or `ledger`, a metric label.
        detail: what is known of it; never its content.
    """

    def __init__(self, kind: str, detail: object) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Unreadable(PenstockError):
    """Records that no client can decode: a corrupt batch, a missing codec, a header's name that is not UTF-8."""


class WebhookRefused(PenstockError):
    """A webhook that is not taken.

    Args:
        outcome: why, a metric label: `forged`, or `untimely` when its timestamp is not of these minutes.
    """

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class LogMoved(PenstockError):
    """A partition's log may not be the one that was fetched: fetch again."""


class Superseded(PenstockError):
    """The lease, epoch, state or position that the work stood on is no longer ours."""


class Halted(PenstockError):
    """Going on would lose or double data.

    Args:
        reason: what was found, in a sentence.
        fix: what an operator can do.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.fix = fix


class ProviderError(PenstockError):
    """A call to the provider failed.

    Args:
        operation: the call, such as ``batches.create``.
        detail: the provider's own words, bounded; never a request's content.
        code: the provider's error code or the HTTP status as text.
        retry_after_seconds: what the provider asked for, if it did.
    """

    def __init__(
        self, operation: str, detail: str, *, code: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(f"{operation}: {code or 'error'}: {detail}")
        self.operation = operation
        self.detail = detail
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class ProviderUnavailable(ProviderError):
    """The call took no effect (not connected, 429, or a read that failed)."""


class ProviderInDoubt(ProviderError):
    """The call may have taken effect: its answer was lost or was a 5xx."""


class ProviderRefused(ProviderError):
    """The provider said no for good (4xx).

    Args:
        concern: what the refusal is about.
        line: of the input file, from 1, where the provider names one.
    """

    def __init__(
        self,
        operation: str,
        detail: str,
        *,
        code: str = "",
        concern: Concern = Concern.UNKNOWN,
        line: int | None = None,
    ) -> None:
        super().__init__(operation, detail, code=code)
        self.concern = concern
        self.line = line


class ProviderMissing(ProviderError):
    """The provider answers 404 for an object that we know of."""


class ProviderDenied(ProviderError):
    """The account may not call: a wrong key, an unpaid bill, full storage, or a base URL that redirects."""
