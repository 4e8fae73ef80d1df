import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.batch import (
    CREATES_MAX,
    LINE_FAULTS,
    LINES_LOST_MAX,
    OUR_FAULTS,
    TRANSITIONS,
    BatchError,
    BatchState,
    Remedy,
    is_terminal,
    locate,
    moves_forward,
    positions,
    rank,
    remedy,
)
from penstock.core.refusal import ACCOUNT_FAULTS, SHARED_FAULTS
from penstock.core.window import Part

TERMINAL = ("completed", "failed", "expired", "cancelled")
CHUNK = uuid.UUID(int=1)


def test_every_state_has_its_moves_and_none_leads_back_to_itself() -> None:
    assert set(TRANSITIONS) == set(BatchState)
    assert all(state not in targets for state, targets in TRANSITIONS.items())
    assert {state for state, targets in TRANSITIONS.items() if not targets} == {BatchState.PUBLISHED, BatchState.SPLIT}


def test_every_state_can_be_reached() -> None:
    reached, edge = {BatchState.SEALED}, [BatchState.SEALED]
    while edge:
        edge = [target for state in edge for target in TRANSITIONS[state] if target not in reached]
        reached.update(edge)
    assert reached == set(BatchState)


@pytest.mark.parametrize("status", TERMINAL)
def test_the_provider_is_done_with_a_terminal_status(status: str) -> None:
    assert is_terminal(status)


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling", "paused", ""])
def test_any_other_status_unknown_ones_too_is_not_the_end(status: str) -> None:
    assert not is_terminal(status)
    assert all(rank(status) < rank(end) for end in TERMINAL)


def test_statuses_rise_on_the_way_the_provider_takes() -> None:
    way = ["validating", "in_progress", "finalizing", "completed"]
    assert sorted(way, key=rank) == way
    assert rank("something_new") == rank("in_progress")


def test_a_status_is_recorded_only_forward_and_an_end_even_if_the_create_answered_with_it() -> None:
    assert moves_forward("validating", "in_progress")
    assert not moves_forward("finalizing", "in_progress")
    assert not moves_forward("in_progress", "in_progress")
    assert moves_forward("failed", "failed")


def refused(
    code: str, line: int | None = None, *, requests: int = 100, lines_lost: int = 0, creates: int = 1
) -> Remedy:
    return remedy(BatchError(code, "", line), requests=requests, lines_lost=lines_lost, creates=creates)


@pytest.mark.parametrize("code", sorted(OUR_FAULTS))
@pytest.mark.outcome("code-duplicate-custom-id", "code-empty-file")
def test_a_fault_in_our_own_writing_halts_the_lane_whatever_else(code: str) -> None:
    assert refused(code, 3) is refused(code, 3, creates=CREATES_MAX) is Remedy.HALT_LANE


@pytest.mark.parametrize("code", sorted(SHARED_FAULTS))
@pytest.mark.outcome("code-model-not-found", "code-invalid-url")
def test_a_fault_that_all_lines_share_answers_all(code: str) -> None:
    assert refused(code, 1) is refused(code) is Remedy.ANSWER_ALL


@pytest.mark.outcome("code-invalid-json-line", "code-invalid-json-line-null")
def test_a_line_that_the_providers_parser_does_not_take_is_answered_and_many_of_them_are_our_fault() -> None:
    assert refused("invalid_json_line", 3) is refused("invalid_json_line", 3, lines_lost=7) is Remedy.ANSWER_LINE
    assert refused("invalid_json_line", 3, lines_lost=LINES_LOST_MAX) is Remedy.HALT_LANE
    assert refused("invalid_json_line") is Remedy.HALT_LANE


@pytest.mark.parametrize("code", sorted(ACCOUNT_FAULTS))
@pytest.mark.outcome("account-refused-at-validation")
def test_an_account_that_is_refused_at_validation_answers_nothing_however_often(code: str) -> None:
    assert refused(code) is refused(code, 1, creates=CREATES_MAX) is Remedy.HALT_ACCOUNT


@pytest.mark.outcome("code-token-limit-exceeded")
def test_exhausted_tokens_are_met_by_a_smaller_batch() -> None:
    assert refused("token_limit_exceeded") is Remedy.AGAIN_SMALLER


@pytest.mark.parametrize("line", [None, 0, -1, 101])
@pytest.mark.outcome("code-nameless", "cannot-find-file-async")
def test_a_refusal_that_names_no_line_of_the_batch_is_tried_again(line: int | None) -> None:
    assert refused("invalid_request", line) is Remedy.AGAIN


@pytest.mark.parametrize("code", [*sorted(LINE_FAULTS), "new_code"])
@pytest.mark.parametrize("line", [1, 100])
@pytest.mark.outcome(
    "code-missing-required-parameter",
    "code-mismatched-model",
    "code-invalid-request",
    "code-streaming-unsupported",
    "refused-one-line",
)
def test_a_line_at_fault_is_answered_alone(code: str, line: int) -> None:
    assert refused(code, line) is Remedy.ANSWER_LINE


def test_a_batch_of_one_has_no_others_to_send_again() -> None:
    assert refused("invalid_request", 1, requests=1) is Remedy.ANSWER_ALL


def test_after_eight_lines_the_window_is_halved() -> None:
    assert refused("invalid_request", 1, lines_lost=LINES_LOST_MAX - 1) is Remedy.ANSWER_LINE
    assert refused("invalid_request", 1, lines_lost=LINES_LOST_MAX) is Remedy.HALVE


@pytest.mark.parametrize(("code", "line"), [("invalid_request", None), ("x", 4)])
@pytest.mark.outcome("refused-all-lines")
def test_a_window_that_used_up_its_creates_is_answered(code: str, line: int | None) -> None:
    assert refused(code, line, creates=CREATES_MAX - 1) is not Remedy.ANSWER_ALL
    assert refused(code, line, creates=CREATES_MAX) is Remedy.ANSWER_ALL


@pytest.mark.outcome("code-token-limit-exceeded")
def test_refusals_for_tokens_are_never_the_answer_however_many_there_were() -> None:
    assert refused("token_limit_exceeded", None, creates=CREATES_MAX) is Remedy.AGAIN_SMALLER


@st.composite
def part_lists(draw: st.DrawFn) -> tuple[Part, ...]:
    """Parts that do not overlap; a chunk may stand in several, as after a split."""
    parts = []
    for number in range(draw(st.integers(1, 4))):
        first = 0
        for _ in range(draw(st.integers(1, 3))):
            first += draw(st.integers(0, 3))
            requests = draw(st.integers(1, 5))
            parts.append(Part(uuid.UUID(int=number), first, requests))
            first += requests
    return tuple(draw(st.permutations(parts)))


def each_request(parts: tuple[Part, ...]) -> list[tuple[uuid.UUID, int]]:
    return [(part.chunk_id, part.first + offset) for part in parts for offset in range(part.requests)]


@given(part_lists())
def test_a_position_is_found_from_its_request_and_back(parts: tuple[Part, ...]) -> None:
    places = locate(parts)
    for position, (chunk_id, index) in enumerate(each_request(parts)):
        (found,) = [start + index - first for first, count, start in places[chunk_id] if first <= index < first + count]
        assert found == position
        assert positions(parts, position, 1) == (Part(chunk_id, index, 1),)


@given(part_lists(), st.integers(0, 70), st.integers(0, 70))
def test_positions_cut_out_what_was_asked_in_order(parts: tuple[Part, ...], first: int, requests: int) -> None:
    assert each_request(positions(parts, first, requests)) == each_request(parts)[first : first + requests]


def test_one_line_and_the_rest_are_the_whole() -> None:
    parts = (Part(CHUNK, 5, 3), Part(uuid.UUID(int=2), 0, 2))
    rest = positions(parts, 0, 2) + positions(parts, 3, 2)
    assert rest == (Part(CHUNK, 5, 2), Part(uuid.UUID(int=2), 0, 2))
    assert positions(parts, 2, 1) == (Part(CHUNK, 7, 1),)
