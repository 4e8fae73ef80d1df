"""Spending limits: what accounts and lanes have spent today, and how much more may be sealed.

What a batch cost is known when it ends; until then it counts as the lane's finished batches did, and before there is
one, by its model's price with as many output tokens as input tokens. A day is one of UTC, and a batch counts on the day
on which it was sealed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from penstock.core.lane import LaneKey, Lanes
from penstock.core.price import bill

GUESS_TOKENS = 1_000_000
"""A price is guessed of so many tokens, in which cents are not lost."""


class Spent(NamedTuple):
    """A lane's batches: dollars and nominal tokens."""

    key: LaneKey
    today_usd: float
    """Of those that were sealed today and have a cost."""
    open_tokens: int
    """Of those that were sealed today and have none yet."""
    priced_usd: float
    """Of all those of two days that have a cost."""
    priced_tokens: int
    """The tokens of those that cost anything: what was refused or never begun says nothing of the price."""

    @property
    def usd_per_token(self) -> float | None:
        """What a nominal token costs, its answer included; None when nobody knows the model's price."""
        if self.priced_usd > 0 and self.priced_tokens > 0:
            return self.priced_usd / self.priced_tokens
        guess = bill(self.key.model, GUESS_TOKENS, 0, GUESS_TOKENS)
        return None if guess is None else float(guess.cost_usd) / GUESS_TOKENS

    @property
    def usd(self) -> float:
        """Spent today, what is under way included."""
        return self.today_usd + self.open_tokens * (self.usd_per_token or 0.0)


@dataclass(slots=True)
class Spending:
    """A day's spending against its limits, in US dollars.

    Args:
        spent: by lane.
        account_limits: by account; one that is not named has none.
    """

    spent: Sequence[Spent]
    account_limits: Mapping[str, float]
    lanes: dict[LaneKey, Spent] = field(init=False)

    def __post_init__(self) -> None:
        self.lanes = {each.key: each for each in self.spent}

    def of(self, key: LaneKey) -> Spent:
        """A lane's own."""
        return self.lanes.get(key, Spent(key, 0.0, 0, 0.0, 0))

    def account_usd(self, account: str) -> float:
        """Spent by an account today."""
        return sum(each.usd for each in self.lanes.values() if each.key.account == account)

    def left_usd(self, key: LaneKey, lane_limit: float | None) -> float | None:
        """What a lane may still spend today; None when neither it nor its account has a limit."""
        limits = []
        if lane_limit is not None:
            limits.append(lane_limit - self.of(key).usd)
        if key.account in self.account_limits:
            limits.append(self.account_limits[key.account] - self.account_usd(key.account))
        return min(limits) if limits else None

    def tokens_left(self, key: LaneKey, lane_limit: float | None) -> int | None:
        """Nominal tokens that may still be sealed of a lane today; None: as many as there are.

        A model without a price is not limited; `penstock check` refuses such a limit.
        """
        left, price = self.left_usd(key, lane_limit), self.of(key).usd_per_token
        if left is None or price is None:
            return None
        return max(0, int(left / price)) if price > 0 else None

    def against(self, lanes: Lanes) -> Iterator[tuple[str, str, float, float]]:
        """Kind, name, dollars spent and limit of every account and lane that has a limit.

        Lanes go by their names in metrics, so that these stay bounded; of several with one name the worst is told.
        """
        for account, limit in self.account_limits.items():
            yield "account", account, self.account_usd(account), limit
        worst: dict[str, tuple[float, float]] = {}
        for key, own in self.lanes.items():
            policy = lanes.policy(key)
            if policy.usd_per_day_max is not None:
                told = (own.usd, policy.usd_per_day_max)
                name = policy.name or "other"
                worst[name] = max(worst.get(name, told), told, key=lambda each: each[0] / each[1])
        for name, (spent_usd, limit) in worst.items():
            yield "lane", name, spent_usd, limit

    def sealed(self, key: LaneKey, tokens: int) -> None:
        """Count what has just been sealed."""
        own = self.of(key)
        self.lanes[key] = own._replace(open_tokens=own.open_tokens + tokens)


def affordable(tokens_left: int | None, asked: Sequence[int]) -> int:
    """How many of these windows, each given by its tokens, may be sealed.

    One request that is dearer than what is left goes alone: it could never go else.
    """
    if tokens_left is None:
        return len(asked)
    if tokens_left <= 0:
        return 0
    count = sum(together <= tokens_left for together in accumulate(asked))
    return max(count, min(1, len(asked)))
