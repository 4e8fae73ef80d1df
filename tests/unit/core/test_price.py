from decimal import Decimal

import pytest

from penstock.core.price import Bill, bill, unpriced


def test_a_batch_of_a_known_model_costs_half() -> None:
    found = bill("gpt-4o-mini", 100_000_000, 0, 0)
    assert found is not None
    assert (found.cost_usd, found.saving_usd) == (Decimal("7.5"), Decimal("7.5"))


def test_output_and_cached_tokens_have_prices_of_their_own() -> None:
    plain, cached = bill("gpt-4o", 1_000_000, 0, 1_000_000), bill("gpt-4o", 1_000_000, 500_000, 1_000_000)
    assert plain is not None
    assert plain.cost_usd == Decimal("6.25")
    assert cached is not None
    assert cached.cost_usd <= plain.cost_usd


@pytest.mark.parametrize("model", ["no-such-model", "", "my-fine-tune"])
def test_an_unknown_model_has_no_bill(model: str) -> None:
    assert bill(model, 1000, 0, 1000) is None


@pytest.mark.parametrize("model", ["gpt-3.5-turbo-instruct", "davinci-002"])
def test_a_model_without_a_batch_price_has_no_bill(model: str) -> None:
    assert bill(model, 1000, 0, 1000) is None


def test_no_tokens_cost_nothing() -> None:
    assert bill("gpt-4o-mini", 0, 0, 0) == Bill(Decimal(0), Decimal(0))


def test_more_cached_tokens_than_tokens_are_no_reason_to_fail() -> None:
    assert bill("gpt-4o", 1000, 2000, 5) == bill("gpt-4o", 1000, 1000, 5)


def test_what_a_sum_of_money_leaves_out_is_said_by_its_models() -> None:
    assert unpriced(0, []) == ""
    assert unpriced(1234, ["b", "a"]) == "not counted: 1,234 tokens of a, b, whose batch price is not known"
    assert "a, b, c and 2 more" in unpriced(5, ["e", "d", "c", "b", "a"])
