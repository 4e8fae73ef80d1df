"""What follows when the provider refuses a batch, at its upload, its create or its validation: nothing was executed."""

from dataclasses import dataclass

import structlog

from penstock.core.batch import KNOWN_CODES, BatchError, Remedy, Verdict, positions
from penstock.core.errors import ProviderDenied
from penstock.core.lane import Lanes
from penstock.core.quota import learned_limit
from penstock.core.refusal import CREATE, account_fix
from penstock.postgres.account_store import AccountStore
from penstock.postgres.batch_row import BatchRow
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.submitter_store import Again
from penstock.stages.lease import Lease
from penstock.telemetry import metrics

log = structlog.get_logger()

SUBMITTER = "submitter"
FIRST_TRY_SECONDS = 15.0
"""An account that the provider refuses is tried again after so long, and then at growing intervals."""


@dataclass(slots=True)
class Refusals:
    """Carries out the action for a refused batch, whichever call refused it. Safe to run twice: the state decides."""

    store: CollectorStore
    accounts: AccountStore
    lanes: Lanes

    async def act(
        self, lease: Lease, batch: BatchRow, error: BatchError, action: Remedy, again: Again
    ) -> Verdict | None:
        """Send the batch or its pieces again, or halt its lane; returns the answer to all of it, where that is due.

        Args:
            lease: under which the batch is worked on.
            batch: ended, or sealed and not created.
            error: what the provider said.
            action: what is to be done.
            again: when the whole batch is sent again, and with which file.
        """
        metrics.batches_refused.labels(error.code if error.code in KNOWN_CODES else "other").inc()
        # The provider's words on a line may quote a request: they go into its answer, not into the log.
        log.warning("batch.refused", batch=str(batch.id), code=error.code, line=error.line, action=action.name)
        count = batch.size.requests
        match action:
            case Remedy.ANSWER_ALL:
                return Verdict(error.code, error.message)
            case Remedy.AGAIN:
                await self.store.again(lease, batch, again)
            case Remedy.AGAIN_SMALLER:
                return await self.out_of_tokens(lease, batch, error, again)
            case Remedy.ANSWER_LINE:
                line = error.line or 1
                rest = positions(batch.parts, 0, line - 1) + positions(batch.parts, line, count - line)
                bad = positions(batch.parts, line - 1, 1)
                verdict = Verdict(error.code, error.message)
                await self.store.split(lease, batch, [(bad, verdict), (rest, None)], batch.lines_lost + 1)
            case Remedy.HALVE:
                halves = [positions(batch.parts, 0, count // 2), positions(batch.parts, count // 2, count)]
                await self.store.split(lease, batch, [(half, None) for half in halves], 0)
            case Remedy.HALT_ACCOUNT:
                await self.halt_account(batch.key.account, error)
                await self.store.again(lease, batch, again, exempt=True)
            case Remedy.HALT_LANE:
                await self.store.halt_lane(lease, batch, f"{error.code}: {error.message}")
                log.error(
                    "lane.halted",
                    lane=str(batch.key),
                    code=error.code,
                    detail=error.message if error.line is None else None,
                    batch=str(batch.id),
                    fix="read the provider's words in penstock status, then: penstock resume lane",
                )
        return None

    async def halt_account(self, account: str, error: BatchError) -> None:
        """The provider refuses the account, and says so only when it validates a batch."""
        denied = ProviderDenied(CREATE, error.message, code=error.code)
        log.error("account.denied", account=account, error=str(denied), fix=account_fix(CREATE, error.code))
        await self.accounts.halt(account, SUBMITTER, denied, FIRST_TRY_SECONDS)

    async def out_of_tokens(self, lease: Lease, batch: BatchRow, error: BatchError, again: Again) -> Verdict | None:
        """Learn the model's limit and send the batch again; a single request above the limit has its answer."""
        limit = learned_limit(error.message)
        configured = self.lanes.policy(batch.key).enqueued_tokens_max
        in_force = await self.store.learn_limit(batch.key.account, batch.key.model, limit, configured)
        if batch.size.requests == 1 and in_force is not None and batch.size.tokens > in_force:
            return Verdict(error.code, error.message)
        await self.store.again(lease, batch, again, exempt=True)
        return None
