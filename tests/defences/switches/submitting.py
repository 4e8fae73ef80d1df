"""Files, creates and look-ups."""

import math
import uuid
from dataclasses import replace

from openai import AsyncOpenAI

import penstock.core.batch
import penstock.postgres.collector_store
import penstock.provider.answer
import penstock.stages.collector
import penstock.stages.refusals
import penstock.stages.submitter
from penstock.core.batch import BatchError, ProviderBatch, Remedy
from penstock.core.create import made_by
from penstock.core.errors import ProviderError
from penstock.core.refusal import Concern, Refusal, concern_of
from penstock.postgres.batch_row import BatchRow
from penstock.postgres.database import Connection
from penstock.postgres.submitter_store import Again, Claim, send_again
from penstock.provider.client import ProviderClient
from penstock.stages.lease import Lease
from penstock.stages.submitter import Submitter
from tests.defences.switches.registry import Patch, defence, reword


@defence("B2", 8)
def deterministic_file(patch: Patch) -> None:
    """A file that was uploaded before is not looked for."""

    async def none(*_: object) -> None:
        return

    patch.setattr(Submitter, "find_file", none)


@defence("B2")
def refused_file(patch: Patch) -> None:
    """A file that the provider refused a batch of is found by its name like any other."""
    upload = Submitter.upload

    async def adopt_any(self: Submitter, batch: BatchRow, lease: Lease) -> str:
        return await upload(self, replace(batch, refusals=0), lease)

    patch.setattr(Submitter, "upload", adopt_any)


@defence("B2", 9)
def intent_look_up(patch: Patch) -> None:
    """A create whose answer was lost is taken as never made."""

    async def absent(self: Submitter, claim: Claim, lease: Lease) -> None:
        intents = [doubt.id for doubt in claim.doubts]
        await self.store.refused(lease, claim.batch.id, intents, "absent", Again(0.0, refusals=0))

    patch.setattr(Submitter, "look_up", absent)


@defence("B3", 9)
def deciding_scan(patch: Patch) -> None:
    """The first look-up that does not find a create decides that it was never made."""
    look_up = Submitter.look_up

    async def decide_now(self: Submitter, claim: Claim, lease: Lease) -> None:
        doubts = tuple(replace(doubt, age_seconds=math.inf) for doubt in claim.doubts)
        await look_up(self, replace(claim, doubts=doubts), lease)

    patch.setattr(Submitter, "look_up", decide_now)


@defence("B3", 9)
def every_page(patch: Patch) -> None:
    """A look-up takes what the pages before a failure showed for all there is."""
    page = ProviderClient.page

    async def or_none(self: ProviderClient, after: str | None) -> tuple[list[ProviderBatch], str | None]:
        try:
            return await page(self, after)
        except ProviderError:
            return [], None

    patch.setattr(ProviderClient, "page", or_none)


@defence("B2", 9)
def sdk_create_retries(patch: Patch) -> None:
    """The SDK retries creates as it retries reads."""
    patch.setattr(AsyncOpenAI, "with_options", lambda self, **_: self)


def other_remedy(patch: Patch, remedy_of: Remedy, instead: Remedy) -> None:
    """Let another remedy be taken than that of the design."""

    def remedy(error: BatchError, **state: int) -> Remedy:
        found = penstock.core.batch.remedy(error, **state)
        return instead if found is remedy_of else found

    patch.setattr(penstock.stages.collector, "remedy", remedy)


@defence("B5")
def shared_faults(patch: Patch) -> None:
    """What all lines share is answered line by line."""
    patch.setattr(penstock.core.batch, "SHARED_FAULTS", frozenset())


@defence("B5")
def our_faults(patch: Patch) -> None:
    """What we wrote wrongly is answered as a fault of the request."""
    patch.setattr(penstock.core.batch, "OUR_FAULTS", frozenset())


@defence("B5")
def null_line(patch: Patch) -> None:
    """A refusal that names no line is the answer to all of them."""
    other_remedy(patch, Remedy.AGAIN, Remedy.ANSWER_ALL)


@defence("B5")
def one_line(patch: Patch) -> None:
    """The fault of one line is the answer to all of them."""
    other_remedy(patch, Remedy.ANSWER_LINE, Remedy.ANSWER_ALL)


@defence("B5")
def lines_lost_max(patch: Patch) -> None:
    """A window loses one line after the other, and is never halved."""
    patch.setattr(penstock.core.batch, "LINES_LOST_MAX", math.inf)


@defence("B5")
def creates_max(patch: Patch) -> None:
    """A window that is refused is created again without end."""
    patch.setattr(penstock.core.batch, "CREATES_MAX", math.inf)


@defence("B5")
def creates_of_descendants(patch: Patch) -> None:
    """Each piece of a refused window has creates of its own."""
    reword(patch, "load_batch", ("f.root_id = b.root_id", "f.id = b.id"))


@defence("B5")
def refused_attempt(patch: Patch) -> None:
    """A refusal at validation counts as a failed attempt of the requests."""
    raised = "UPDATE chunk SET attempt = attempt + 1 WHERE id IN (SELECT chunk_id FROM part WHERE batch_id = $1)"

    async def again(connection: Connection, batch_id: uuid.UUID, how: Again) -> None:
        await connection.raw.execute(raised, batch_id)
        await send_again(connection, batch_id, how)

    patch.setattr(penstock.postgres.collector_store, "send_again", again)


@defence("B5")
def halted_lane_tokens(patch: Patch) -> None:
    """A halted lane keeps the tokens of what it has sealed."""
    reword(patch, "release_held", ("b.state = 'sealed'", "false"))


@defence("B5")
def new_file_after_halt(patch: Patch) -> None:
    """A lane that goes on after a halt sends the refused file again."""

    def old_file(delay_seconds: float, **_: bool) -> Again:
        return Again(delay_seconds)

    patch.setattr(penstock.postgres.collector_store, "Again", old_file)


@defence("S2")
def final_over_limit(patch: Patch) -> None:
    """A request over the token limit that is refused so is sent again."""
    patch.setattr(penstock.stages.refusals, "learned_limit", lambda _: None)


@defence("B4")
def twins(patch: Patch) -> None:
    """A second batch of a create that is known to have made one is not looked for."""
    reword(patch, "note_spares", ("i.settled_at IS NOT NULL AND", "i.outcome IN ('absent', 'refused') AND"))
    reword(patch, "note_spares", ("s.create_id IS NULL AND NOT", "false AND NOT"))


@defence("Quota overlaps")
def validating_late(patch: Patch) -> None:
    """What is validated counts as unproven for as long as it is validated."""
    late = "coalesce(b.submitted_at > clock_timestamp() - make_interval(secs => $3), true)"
    reword(patch, "reserved", (late, "$3::double precision > 0"))


@defence("B5")
def account_refusals(patch: Patch) -> None:
    """A refusal of the account is taken for one of the model, and answers every request."""
    usual = concern_of

    def of_the_lane(refusal: Refusal) -> Concern:
        concern = usual(refusal)
        return Concern.LANE if concern is Concern.ACCOUNT and refusal.operation == "batches.create" else concern

    patch.setattr(penstock.provider.answer, "concern_of", of_the_lane)


@defence("B2")
def made_by_file(patch: Patch) -> None:
    """A create in doubt is known by metadata alone."""
    patch.setattr(
        penstock.stages.submitter, "made_by", lambda *given, **named: made_by(*given, **{**named, "file_id": None})
    )
