"""The heart of a response's body in a few words, for people who watch."""

import json
from collections.abc import Mapping
from typing import Any

NUMBERS_SHOWN = 3


def excerpt(body: Mapping[str, Any]) -> str:
    """A chat's or completion's text, the beginning of a vector, a verdict; else the body itself."""
    match body:
        case {"choices": [{"message": {"content": text}}, *_]} | {"choices": [{"text": text}, *_]}:
            return str(text)
        case {"output": [*items]}:
            return " ".join(texts_of(items))
        case {"data": [{"embedding": [*numbers]}, *_]}:
            return f"a vector: {', '.join(f'{number:.3f}' for number in numbers[:NUMBERS_SHOWN])}, …"
        case {"results": [{"flagged": flagged}, *_]}:
            return "flagged" if flagged else "not flagged"
        case {"error": {"message": message}}:
            return str(message)
        case _:
            return json.dumps(body, ensure_ascii=False)


def texts_of(items: list[Any]) -> list[str]:
    """The texts of a response's output items."""
    contents = [each.get("content") or [] for each in items if isinstance(each, dict)]
    return [str(piece["text"]) for content in contents for piece in content if "text" in piece]


def shortened(text: object, length: int = 80) -> str:
    """A text in one line of at most this length."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"
