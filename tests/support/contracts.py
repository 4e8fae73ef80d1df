"""The JSON Schemas of docs/contracts, as judges, and values made from them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError, validators

FOLDER = Path(__file__).parents[2] / "docs" / "contracts"
NAMES = ("request", "request-headers", "result", "result-headers", "dead-letter-headers")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
ANY = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def max_bytes(_: Any, limit: int, text: object, __: Any) -> Iterator[ValidationError]:
    """The keyword that the request's schema adds: a text's length as UTF-8."""
    if isinstance(text, str) and len(text.encode()) > limit:
        yield ValidationError(f"more than {limit} bytes")


Judge = validators.extend(Draft202012Validator, {"maxBytes": max_bytes})  # type: ignore[no-untyped-call]  # its stubs leave it so


def schema(name: str) -> dict[str, Any]:
    """A schema of the folder."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text())
    return found


JUDGES = {name: Judge(schema(name)) for name in NAMES}


def complaints(name: str, value: object) -> list[str]:
    """What a schema has against a value."""
    return [f"{error.json_path}: {error.message}" for error in JUDGES[name].iter_errors(value)]


def texts(headers: Iterable[tuple[str, bytes | None]] | Mapping[str, bytes | None]) -> dict[str, str]:
    """A record's headers as the schemas have them; the last one of a name counts."""
    return {name: (value or b"").decode(errors="replace") for name, value in dict(headers).items()}


def codes(name: str, value: object) -> set[str]:
    """The dead-letter codes that a schema names for what is wrong with a value."""
    found = set()
    for error in JUDGES[name].iter_errors(value):
        if error.validator == "required":
            missing = [each for each in error.validator_value if each not in error.instance]
            found |= {error.schema["properties"][each]["deadLetter"]["required"] for each in missing}
        else:
            found.add(error.schema["deadLetter"][error.validator])
    return found


def values(of: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values from a schema, as far as the request's two use it; what `if` says is left to a filter."""
    if "const" in of:
        return st.just(of["const"])
    if "enum" in of:
        return st.sampled_from(of["enum"])
    if of.get("type") == "object":
        return members(of)
    if of.get("type") == "string":
        if "deadLetter" in of and "minLength" not in of:
            return st.from_regex(of["pattern"], fullmatch=True)
        return st.text(st.characters(exclude_categories=["Cs"]), min_size=of.get("minLength", 0), max_size=130)
    return ANY


def members(of: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects from a schema, some with members that it does not name."""
    named = {name: values(each) for name, each in of["properties"].items()}
    required = {name: named.pop(name) for name in of.get("required", ())}
    more = values(of.get("additionalProperties", {}))
    own = st.dictionaries(TEXTS.filter(lambda name: name not in of["properties"]), more, max_size=2)
    return st.builds(lambda extra, given: {**extra, **given}, own, st.fixed_dictionaries(required, optional=named))


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Request values that their schema allows."""
    value: dict[str, Any] = draw(values(schema("request")))
    if value["url"] == "/v1/embeddings":
        inputs = TEXTS | st.lists(TEXTS, max_size=3) | st.lists(st.integers(0, 9), max_size=3)
        value["body"]["input"] = draw(inputs)
    return value


def allowed() -> st.SearchStrategy[dict[str, Any]]:
    """Request values that their schema allows."""
    return requests().filter(JUDGES["request"].is_valid)


@st.composite
def doubtful(draw: st.DrawFn) -> Any:
    """Request values with one place changed: most are not allowed."""
    value = draw(requests())
    where = draw(st.sampled_from([value, value["body"]]))
    name = draw(st.sampled_from(["custom_id", "url", "method", "body", "model", "stream", "input"]))
    odd = ANY | st.sampled_from(["", "x" * 600, "é" * 257, "a\u2028", "\u0000", "/v1/embeddings", True])
    if draw(st.booleans()):
        where[name] = draw(odd)
    else:
        where.pop(name, None)
    return draw(st.one_of(st.just(value), st.just(value), st.just(value), ANY))


def drawn(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """So many values of a strategy, always the same ones."""
    found: list[Any] = []

    @seed(0)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(value: Any) -> None:
        found.append(value)

    take()
    return found
