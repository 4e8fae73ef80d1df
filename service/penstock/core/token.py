"""Token estimates without network: bytes of the body, by endpoint, corrected by what finished batches really used."""

import math

BYTES_PER_TOKEN = 4.0
"""English text in a JSON body; code and JSON syntax run lower, which calibration finds."""

TOKENS_MIN = 3
"""What the provider adds to each request for its own framing."""

CALIBRATION_WEIGHT = 0.2
CALIBRATION_RANGE = (0.05, 20.0)
UNDERESTIMATED = 1.25
HEADROOM = 1.15
"""Estimates are raised by this much under an enqueued-token limit."""


def estimate(body_bytes: int) -> int:
    """Nominal prompt tokens of a body of this many bytes, before calibration."""
    return TOKENS_MIN + math.ceil(body_bytes / BYTES_PER_TOKEN)


def calibrate(factor: float, estimated: int, used: int) -> float:
    """The factor after one more finished batch.

    Args:
        factor: the factor so far, 1.0 when nothing is known.
        estimated: the batch's nominal estimate, in tokens, of the requests that were executed.
        used: ``usage.input_tokens`` of the batch.

    Returns:
        An exponentially weighted mean, kept inside a sane range.
    """
    if estimated <= 0 or used <= 0:
        return factor
    low, high = CALIBRATION_RANGE
    seen = min(max(used / estimated, low), high)
    return factor + CALIBRATION_WEIGHT * (seen - factor)


def underestimated(factor: float) -> float:
    """The factor after a model's batches were refused for their tokens under a limit that they seemed to fit.

    The provider counts more than its usage says, or our bytes were dearer than those before.
    """
    return min(factor * UNDERESTIMATED, CALIBRATION_RANGE[1])


def expected(nominal: int, factor: float) -> int:
    """Tokens to reserve for a nominal estimate: calibrated, with headroom."""
    return math.ceil(nominal * factor * HEADROOM)
