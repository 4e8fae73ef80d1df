"""What a batch cost and saved, by `genai-prices`.

A model without a known batch price is counted apart, never guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from genai_prices import Usage, calc_price

MODELS_NAMED = 3


@dataclass(frozen=True, slots=True)
class Bill:
    """Cost in US dollars at batch prices, and what the synchronous price was above it."""

    cost_usd: Decimal
    saving_usd: Decimal


def unpriced(tokens: int, models: Sequence[str]) -> str:
    """What a sum of money leaves out, in words; empty when it leaves nothing out.

    Args:
        tokens: of models without a known batch price.
        models: their names.
    """
    if not tokens:
        return ""
    names = sorted(models)
    more = f" and {len(names) - MODELS_NAMED} more" if len(names) > MODELS_NAMED else ""
    return f"not counted: {tokens:,} tokens of {', '.join(names[:MODELS_NAMED])}{more}, whose batch price is not known"


def bill(model: str, input_tokens: int, cached_tokens: int, output_tokens: int) -> Bill | None:
    """Price a batch's usage; None when the model or its batch price is not known.

    Args:
        model: as the provider names it.
        input_tokens: ``usage.input_tokens``, the cached ones included.
        cached_tokens: ``usage.input_tokens_details.cached_tokens``.
        output_tokens: ``usage.output_tokens``.
    """
    cached = min(cached_tokens, input_tokens)  # some providers report otherwise, and that is refused
    usage = Usage(input_tokens=input_tokens, cache_read_tokens=cached, output_tokens=output_tokens)
    try:
        full = calc_price(usage, model, provider_id="openai").total_price
        batch = calc_price(usage, model, provider_id="openai", price_context={"processing": "batch"}).total_price
    except LookupError:
        return None
    if full and batch >= full:  # a model without a batch variant silently answers with the full price
        return None
    return Bill(batch, full - batch)
