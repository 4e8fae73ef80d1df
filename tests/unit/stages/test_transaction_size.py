import pytest

from penstock.stages.transaction_size import BYTES_MIN, TransactionSize

MIB = 1024 * 1024


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def transaction(size: TransactionSize, clock: Clock, seconds: float, *, fails: bool = False) -> None:
    with size.measured():
        clock.now += seconds
        if fails:
            raise TimeoutError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def size(clock: Clock) -> TransactionSize:
    return TransactionSize(32 * MIB, 20.0, clock)


def test_transactions_shrink_while_they_take_long_and_grow_again(size: TransactionSize, clock: Clock) -> None:
    with pytest.raises(TimeoutError):
        transaction(size, clock, 60, fails=True)
    assert size.bytes == 8 * MIB
    transaction(size, clock, 27)
    assert size.bytes == 4 * MIB
    transaction(size, clock, 13)
    assert size.bytes == 4 * MIB
    for _ in range(4):
        transaction(size, clock, 1)
    assert size.bytes == 32 * MIB


def test_a_quick_failure_says_nothing_of_the_size(size: TransactionSize, clock: Clock) -> None:
    with pytest.raises(TimeoutError):
        transaction(size, clock, 0.1, fails=True)
    assert size.bytes == 32 * MIB


def test_slots_that_fail_together_count_once(size: TransactionSize, clock: Clock) -> None:
    together = [size.measured() for _ in range(5)]
    for each in together:
        each.__enter__()
    clock.now += 60
    for each in together:
        assert not each.__exit__(TimeoutError, TimeoutError(), None)
    assert size.bytes == 8 * MIB


def test_there_is_a_least_size(size: TransactionSize, clock: Clock) -> None:
    for _ in range(20):
        transaction(size, clock, 100)
    assert size.bytes == BYTES_MIN
    assert TransactionSize(1024, 20.0).bytes_min == 1024
