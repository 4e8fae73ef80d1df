"""Windows, reservations and deadlines."""

from tests.defences.switches.registry import Patch, defence, reword


@defence("S1", 19)
def lane_lock_and_exact_count(patch: Patch) -> None:
    """Sealing neither locks the lane nor demands of chunks the count that it read (either alone suffices)."""
    reword(patch, "lock_lane", (" FOR UPDATE", ""))
    reword(patch, "take_chunks", (" AND c.taken = t.taken", ""), ("taken = c.taken +", "taken = t.taken +"))
