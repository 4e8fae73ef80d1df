"""Batches refused at validation, which executed nothing (B5): what the database holds of them afterwards."""

import uuid

import pytest

from penstock.core.batch import CREATES_MAX, LINES_LOST_MAX, BatchState, Cancel, Verdict
from penstock.postgres.account_store import AccountStore
from penstock.postgres.batch_row import BatchRow, load_batch
from penstock.postgres.database import Database
from penstock.postgres.operator_store import OperatorStore
from tests.support.collecting import collector_of
from tests.support.rows import ACCOUNT, batch_of, held, migrated

SLOTS = 4
PIECES = 16
"""So many pieces of a window may be under way when its last create is counted."""
REFUSED = """
UPDATE batch SET state = 'ended', ended_at = now(), provider_status = 'failed', provider_errors = $2::jsonb
WHERE id = $1
"""
CREATED = """
INSERT INTO intent (id, batch_id, account, settled_at, outcome)
SELECT gen_random_uuid(), $1, 'account', now(), 'landed' FROM generate_series(1, $2)
"""


class Refusals:
    """A collector, and batches that the provider refuses."""

    def __init__(self, pool: Database) -> None:
        self.pool = pool
        self.collector = collector_of(pool, SLOTS)

    async def refuse(
        self,
        batch_id: uuid.UUID,
        *,
        code: str = "invalid_request",
        message: str = "It is bad.",
        line: int | None = 1,
        creates: int = 1,
    ) -> Verdict | None:
        """Let a batch have been created and refused; returns the verdict on all of it, if there is one."""
        lease = await held(self.pool, f"slot/{uuid.uuid4()}")
        async with self.pool.pool.acquire() as connection:
            await connection.execute(REFUSED, batch_id, [{"code": code, "message": message, "line": line}])
            await connection.execute(CREATED, batch_id, creates)
        return await self.collector.refused(lease, await self.batch(batch_id))

    async def close(self, batch_id: uuid.UUID, verdict: Verdict) -> None:
        """Note a verdict on all of a batch, as a decision does."""
        async with self.pool.pool.acquire() as connection:
            await connection.execute("UPDATE batch SET verdict_code = $2 WHERE id = $1", batch_id, verdict.code)

    async def batch(self, batch_id: uuid.UUID) -> BatchRow:
        """A batch as it is."""
        return await self.collector.store.load(batch_id)

    async def batches(self, state: BatchState) -> list[BatchRow]:
        """The batches in a state, largest first."""
        async with self.pool.transaction() as connection:
            rows = await connection.raw.fetch(
                "SELECT id FROM batch WHERE state = $1 ORDER BY requests DESC, id", state.value
            )
            return [await load_batch(connection, row["id"]) for row in rows]


@pytest.mark.defence("lines_lost_max", "one_line")
@pytest.mark.outcome("refused-all-lines")
async def test_a_window_loses_eight_lines_one_at_a_time_and_is_then_halved(database: str) -> None:
    """Off: it loses lines until its creates are used up; or one bad line is the answer of all."""
    async with migrated(database) as pool:
        refusals = Refusals(pool)
        batch_id = await batch_of(pool, 20)
        for lost in range(LINES_LOST_MAX):
            assert await refusals.refuse(batch_id, line=3) is None, "the refusal of one line answers all"
            (rest,) = await refusals.batches(BatchState.SEALED)
            assert (rest.size.requests, rest.lines_lost) == (19 - lost, lost + 1)
            batch_id = rest.id
        answered = await refusals.batches(BatchState.ENDED)
        assert {(each.size.requests, each.verdict) for each in answered} == {
            (1, Verdict("invalid_request", "It is bad."))
        }
        assert len({each.parts[0] for each in answered}) == LINES_LOST_MAX
        assert await refusals.refuse(batch_id, line=3) is None
        halves = await refusals.batches(BatchState.SEALED)
        assert [each.size.requests for each in halves] == [6, 6], "the window is not halved"


@pytest.mark.defence("creates_max", "creates_of_descendants")
@pytest.mark.outcome("refused-all-lines")
async def test_a_window_and_its_pieces_have_so_many_creates_and_then_the_refusal_is_the_answer(database: str) -> None:
    """Off: there is no end to it; or each piece begins to count anew."""
    async with migrated(database) as pool:
        refusals = Refusals(pool)
        assert await refusals.refuse(await batch_of(pool, 20), creates=CREATES_MAX - 2) is None
        (rest,) = await refusals.batches(BatchState.SEALED)
        assert await refusals.refuse(rest.id) is None
        (rest,) = await refusals.batches(BatchState.SEALED)
        verdict = await refusals.refuse(rest.id)
        assert verdict == Verdict("invalid_request", "It is bad."), "the window is created again"


@pytest.mark.defence("refused_attempt", "null_line")
@pytest.mark.outcome("code-nameless")
async def test_a_refusal_that_names_no_line_is_tried_again_at_the_same_attempt(database: str) -> None:
    """Off: a refusal counts as a failure of the requests; or it is their answer."""
    async with migrated(database) as pool:
        refusals = Refusals(pool)
        batch_id = await batch_of(pool, 3)
        assert await refusals.refuse(batch_id, line=None) is None, "the refusal is the answer"
        batch = await refusals.batch(batch_id)
        assert (batch.state, batch.refusals) == (BatchState.SEALED, 0), "its creates were not refused"
        assert batch.attempts == (0,), "what was never executed has failed"


@pytest.mark.defence("final_over_limit")
@pytest.mark.outcome("token-limit-single")
async def test_a_single_request_over_the_token_limit_that_is_refused_so_has_its_answer(database: str) -> None:
    """Off: it is sent again for ever."""
    async with migrated(database) as pool:
        refusals = Refusals(pool)
        for requests, tokens, final in ((1, 500, True), (1, 50, False), (2, 500, False)):
            verdict = await refusals.refuse(
                await batch_of(pool, requests, tokens=tokens),
                code="token_limit_exceeded",
                message="Limit: 100 enqueued tokens",
                line=None,
            )
            assert (verdict is not None) == final, f"the answer to {requests} requests of {tokens} tokens: {verdict}"


@pytest.mark.defence("shared_faults", "our_faults")
@pytest.mark.outcome("code-model-not-found", "code-duplicate-custom-id")
async def test_a_fault_that_all_lines_share_answers_all_and_one_of_ours_halts_the_lane(database: str) -> None:
    """Off: what all lines share is found line by line; or requests are answered for what we wrote."""
    async with migrated(database) as pool:
        refusals = Refusals(pool)
        verdict = await refusals.refuse(await batch_of(pool, 3), code="model_not_found")
        assert verdict == Verdict("model_not_found", "It is bad."), "the lines are tried one by one"
        batch_id = await batch_of(pool, 3)
        assert await refusals.refuse(batch_id, code="duplicate_custom_id") is None
        assert (await refusals.batch(batch_id)).state is BatchState.SEALED, "requests are answered for a fault of ours"
        async with pool.pool.acquire() as connection:
            reason = await connection.fetchval("SELECT halted_reason FROM lane")
        assert reason.startswith("duplicate_custom_id")


@pytest.mark.outcome("refused-all-lines")
async def test_a_window_of_bad_lines_alone_is_answered_after_a_bounded_number_of_creates(database: str) -> None:
    """Each create refuses the first line; `tests/long` has the same with a provider."""
    async with migrated(database) as pool:
        refusals, creates = Refusals(pool), 0
        await batch_of(pool, 2_000)
        while sealed := await refusals.batches(BatchState.SEALED):
            for batch in sealed:
                creates += 1
                verdict = await refusals.refuse(batch.id)
                if verdict is not None:
                    await refusals.close(batch.id, verdict)
        assert creates <= CREATES_MAX + PIECES
        answered = sum(each.size.requests for each in await refusals.batches(BatchState.ENDED))
        assert answered == 2_000


@pytest.mark.outcome("account-refused-at-validation")
async def test_an_account_that_is_refused_at_validation_is_halted_and_its_batch_goes_again(database: str) -> None:
    async with migrated(database) as pool:
        refusals = Refusals(pool)
        batch_id = await batch_of(pool, 20)
        code = "billing_hard_limit_reached"
        assert await refusals.refuse(batch_id, code=code, line=None, creates=CREATES_MAX) is None
        assert (await refusals.batch(batch_id)).state is BatchState.SEALED
        assert await AccountStore(pool).halted(ACCOUNT, "submitter")


@pytest.mark.outcome("cancel-split")
async def test_what_an_operator_cancelled_is_not_sent_in_pieces(database: str) -> None:
    async with migrated(database) as pool:
        refusals = Refusals(pool)
        batch_id = await batch_of(pool, 20)
        (found,) = await OperatorStore(pool).cancel(str(batch_id), Cancel.ANSWER)
        assert found.cancel is None
        assert await refusals.refuse(batch_id, code="invalid_request", line=3) is None
        (rest,) = await refusals.batches(BatchState.SEALED)
        assert (rest.size.requests, rest.cancel) == (19, Cancel.ANSWER)
        (bad,) = [each for each in await refusals.batches(BatchState.ENDED) if each.verdict]
        assert (bad.size.requests, bad.cancel) == (1, None)


async def test_a_refused_batch_has_cost_nothing_and_its_creates_were_not_refused(database: str) -> None:
    """A cost of 0 would count against no limit; and refusals of creates answer all requests in the end."""
    async with migrated(database) as pool:
        refusals = Refusals(pool)
        batch_id = await batch_of(pool, 20)
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE batch SET cost_usd = 0, saving_usd = 0 WHERE id = $1", batch_id)
        assert await refusals.refuse(batch_id, code="server_error", line=None) is None
        again = await refusals.batch(batch_id)
        assert (again.state, again.cost_usd, again.saving_usd) == (BatchState.SEALED, None, None)
        assert again.refusals == 0
