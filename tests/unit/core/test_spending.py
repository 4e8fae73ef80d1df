import pytest

from penstock.core.lane import LaneKey
from penstock.core.spending import Spending, Spent, affordable

MINI = LaneKey("one", "/v1/responses", "gpt-4o-mini", "24h")
BIG = LaneKey("one", "/v1/responses", "gpt-4o", "24h")
ELSEWHERE = LaneKey("two", "/v1/responses", "gpt-4o-mini", "24h")
UNKNOWN = LaneKey("one", "/v1/responses", "nobodys-model", "24h")


def test_without_a_limit_nothing_is_held() -> None:
    spending = Spending([Spent(MINI, 1000.0, 0, 1000.0, 10)], {})
    assert spending.tokens_left(MINI, None) is None


def test_what_is_under_way_counts_as_finished_batches_did() -> None:
    spending = Spending([Spent(MINI, 3.0, 1_000_000, 4.0, 2_000_000)], {})
    assert spending.of(MINI).usd == pytest.approx(5.0)
    assert spending.tokens_left(MINI, 6.0) == 500_000
    assert spending.tokens_left(MINI, 5.0) == 0
    assert spending.tokens_left(MINI, 2.0) == 0


def test_before_a_batch_has_finished_the_models_price_is_taken_with_as_much_output() -> None:
    """gpt-4o-mini by the batch: 0.075 and 0.30 dollars a million."""
    spending = Spending([], {})
    assert spending.of(MINI).usd_per_token == pytest.approx(0.375e-6)
    assert spending.tokens_left(MINI, 0.375) == pytest.approx(1_000_000, abs=1)


def test_an_accounts_limit_holds_all_of_its_lanes_and_no_other() -> None:
    spending = Spending([Spent(MINI, 2.0, 0, 2.0, 1000), Spent(BIG, 7.0, 0, 7.0, 1000)], {"one": 10.0})
    assert spending.left_usd(MINI, None) == pytest.approx(1.0)
    assert spending.left_usd(BIG, 7.5) == pytest.approx(0.5)
    assert spending.left_usd(ELSEWHERE, None) is None


def test_what_is_sealed_in_a_round_is_not_spent_twice() -> None:
    spending = Spending([Spent(MINI, 0.0, 0, 1.0, 1000), Spent(BIG, 0.0, 0, 1.0, 1000)], {"one": 1.0})
    assert spending.tokens_left(MINI, None) == 1000
    spending.sealed(MINI, 400)
    assert spending.tokens_left(MINI, None) == 600
    spending.sealed(BIG, 600)
    assert spending.tokens_left(MINI, None) == 0


def test_a_model_without_a_price_is_not_limited() -> None:
    assert Spending([], {}).tokens_left(UNKNOWN, 1.0) is None


@pytest.mark.parametrize(
    ("left", "asked", "allowed"),
    [(None, [9, 9], 2), (10, [4, 6, 1], 2), (10, [4, 7], 1), (10, [11], 1), (0, [1], 0), (-5, [1], 0), (10, [], 0)],
)
def test_windows_are_sealed_as_far_as_the_money_goes(left: int | None, asked: list[int], allowed: int) -> None:
    assert affordable(left, asked) == allowed
