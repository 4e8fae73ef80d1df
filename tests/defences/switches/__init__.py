"""The switches: each takes one defence of docs/design.md out of the running code, and nothing else."""

from tests.defences.switches import (
    cleaning,
    intake,
    lease,
    publishing,
    restoring,
    sealing,
    submitting,
    surroundings,
    watching,
)
from tests.defences.switches.registry import DEFENCES, Defence

__all__ = [
    "DEFENCES",
    "Defence",
    "cleaning",
    "intake",
    "lease",
    "publishing",
    "restoring",
    "sealing",
    "submitting",
    "surroundings",
    "watching",
]
