"""The members of a JSON object, read by the standard library.

msgspec is quicker, and refuses what JSON allows: escapes of lone surrogates, which both producers and models write.
"""

import json
from collections.abc import Callable
from typing import Any

Pairs = list[tuple[str, Any]]
DIGITS_READ = 18


class Malformed(ValueError):
    """Text that is no JSON object, for a reason that is known; its first argument is the reason's code."""


def refuse_constant(name: str) -> None:
    """NaN and Infinity are no JSON."""
    raise Malformed("invalid_number", name)


def first_digits(integer: str) -> int:
    """Enough of an integer: nobody asks for more, and of thousands of digits Python reads none."""
    return int(integer[:DIGITS_READ])


def distinct(pairs: Pairs) -> dict[str, Any]:
    """An object's members, each of which must have a name of its own."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise Malformed("duplicate_key")
    return members


def read_members(
    text: str, pairs: Callable[[Pairs], dict[str, Any]] = dict
) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """The members of a JSON object and where each value stands in the text; of integers the first 18 digits.

    Args:
        text: the object.
        pairs: makes every object out of its members; `distinct` refuses a name that is given twice.

    Raises:
        Malformed: it is no object, or not JSON for a reason that has a code.
        ValueError: it is not JSON.
        RecursionError: it is nested too deep.
    """
    decoder = json.JSONDecoder(parse_constant=refuse_constant, parse_int=first_digits, object_pairs_hook=pairs)
    members: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    if not isinstance(decoder.decode(text), dict):
        raise Malformed("not_an_object")
    place = text.index("{") + 1
    while True:
        place = after_blanks(text, place)
        if text[place] == "}":
            return members, spans
        if text[place] == ",":
            place = after_blanks(text, place + 1)
        name, place = decoder.raw_decode(text, place)
        start = after_blanks(text, after_blanks(text, place) + 1)
        members[name], place = decoder.raw_decode(text, start)
        spans[name] = (start, place)


def after_blanks(text: str, place: int) -> int:
    """The first place from here that is no JSON white space."""
    while text[place] in " \t\r\n":
        place += 1
    return place
