"""Chance that can be repeated: every random decision is a hash of the seed and of what it is about."""

from hashlib import sha256


def draw(*parts: object) -> int:
    """A number of 64 bits that depends on the parts alone."""
    return int.from_bytes(sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big")


def share(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return draw(*parts) / 2**64


def name(*parts: object) -> str:
    """24 hexadecimal digits that depend on the parts alone, for ids."""
    return sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]
