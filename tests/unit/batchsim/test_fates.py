import pytest

from batchsim.fates import decide_fates, shuffled
from batchsim.rules import LineFault

IDS = [f"request-{number}" for number in range(100)]


def test_without_faults_every_line_is_done() -> None:
    assert decide_fates("seed", "batch", IDS, (), 1.0) == ({}, frozenset())


def test_faults_take_their_share_and_never_the_same_line() -> None:
    faults = (LineFault(fraction=0.2, status_code=429), LineFault(count=3, defect="missing"), LineFault(code="late"))
    fates = decide_fates("seed", "batch", IDS, faults, 0.9)
    by_fault = [{index for index, fault in fates.faults.items() if fault is one} for one in faults]
    assert [len(indices) for indices in by_fault] == [20, 3, 67]
    assert len(fates.undone) == 10
    assert set().union(*by_fault, fates.undone) == set(range(100))


def test_the_same_lines_are_hit_again_in_the_same_batch_only() -> None:
    fault = (LineFault(fraction=0.5, status_code=500),)
    first = decide_fates("seed", "batch", IDS, fault, 1.0)
    assert decide_fates("seed", "batch", IDS, fault, 1.0) == first
    assert decide_fates("seed", "other", IDS, fault, 1.0) != first
    assert decide_fates("other", "batch", IDS, fault, 1.0) != first


def test_a_fate_goes_with_the_custom_id_wherever_it_stands() -> None:
    fault = (LineFault(count=1, status_code=500),)
    (index,) = decide_fates("seed", "batch", IDS, fault, 1.0).faults
    (reversed_index,) = decide_fates("seed", "batch", IDS[::-1], fault, 1.0).faults
    assert IDS[index] == IDS[::-1][reversed_index]


@pytest.mark.parametrize("fraction", [0.0, 0.07, 0.29, 0.5, 1.0])
def test_the_done_fraction_is_exact(fraction: float) -> None:
    assert len(decide_fates("seed", "batch", IDS, (), fraction).undone) == round(100 * (1 - fraction))


@pytest.mark.parametrize("size", range(2, 8))
def test_a_shuffled_order_is_never_the_given_one(size: int) -> None:
    for batch in range(50):
        order = shuffled("seed", str(batch), "output", range(size))
        assert sorted(order) == list(range(size))
        assert order != list(range(size))


def test_a_shuffle_can_be_repeated() -> None:
    assert shuffled("seed", "batch", "output", range(50)) == shuffled("seed", "batch", "output", range(50))
    assert shuffled("seed", "batch", "output", range(50)) != shuffled("seed", "other", "output", range(50))
