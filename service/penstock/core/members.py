"""The members of a JSON object, read by the standard library.

msgspec is quicker, and refuses what JSON allows: escapes of lone surrogates, which both producers and models write.
"""

import json
from typing import Any


def refuse_constant(name: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(name)


def read_members(text: str) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """The members of a JSON object and where each value stands in the text.

    Raises:
        ValueError: the text is not exactly one JSON object.
        RecursionError: it is nested too deep.
    """
    decoder = json.JSONDecoder(parse_constant=refuse_constant)
    members: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    if not isinstance(decoder.decode(text), dict):
        raise ValueError("not an object")  # noqa: TRY004 - the caller asks one question
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
