"""Files, creates and look-ups."""

import math
from dataclasses import replace

from openai import AsyncOpenAI

from penstock.postgres.batch_row import BatchRow
from penstock.postgres.submitter_store import Again, Claim
from penstock.stages.lease import Lease
from penstock.stages.submitter import Submitter
from tests.defences.switches.registry import Patch, defence


@defence("B2", 8)
def deterministic_file(patch: Patch) -> None:
    """A file that was uploaded before is not looked for."""

    async def none(_: Submitter, __: str, ___: int) -> None:
        return

    patch.setattr(Submitter, "find_file", none)


@defence("B2")
def refused_file(patch: Patch) -> None:
    """A file that the provider refused a batch of is found by its name like any other."""
    upload = Submitter.upload

    async def adopt_any(self: Submitter, batch: BatchRow, lease: Lease, **_: bool) -> str:
        return await upload(self, batch, lease, adopt=True)

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


@defence("B2", 9)
def sdk_create_retries(patch: Patch) -> None:
    """The SDK retries creates as it retries reads."""
    patch.setattr(AsyncOpenAI, "with_options", lambda self, **_: self)
