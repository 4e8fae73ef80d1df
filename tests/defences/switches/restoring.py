"""Postgres went back: who notices, and what is not done again."""

import uuid
from dataclasses import replace
from typing import Any

import penstock.stages.assignment
from penstock.composition import Composition
from penstock.core.answered import NOTHING_ANSWERED
from penstock.core.publication import Publication
from penstock.postgres.census_store import CensusStore, Heartbeat
from penstock.stages.slot import SlotSession
from tests.defences.switches.registry import Patch, defence


@defence("P6", 5)
def whole_ledger(patch: Patch) -> None:
    """Each slot looks at its own part of the ledger alone."""

    async def unseen(_: Composition) -> None:
        return

    patch.setattr(Composition, "data_lost", unseen)


@defence("P6", 5)
def lost_heartbeat(patch: Patch) -> None:
    """A replica that runs on trusts whatever it finds in the database."""
    heartbeat = CensusStore.heartbeat
    beats: list[Heartbeat] = []

    async def as_ever(self: CensusStore, replica: uuid.UUID, generation: int, digest: bytes) -> Heartbeat:
        beat = await heartbeat(self, replica, generation, digest)
        beats.append(beat._replace(before=beats[-1].now if beats else None))
        return beats[-1]

    patch.setattr(CensusStore, "heartbeat", as_ever)


@defence("P6", 5)
def answered_published(patch: Patch) -> None:
    """What the result topics hold already is published."""
    publication = SlotSession.publication

    def of_all(self: SlotSession, *given: Any) -> Publication:
        return replace(publication(self, *given), answered=NOTHING_ANSWERED)

    patch.setattr(SlotSession, "publication", of_all)


@defence("I6", 5)
def answered_taken_in(patch: Patch) -> None:
    """What is answered is taken in again."""
    patch.setattr(penstock.stages.assignment, "has", lambda *_: False)
