"""The demonstration's requests: one for each public module, class and function of Python's standard library.

The library's source is read, nothing of it is imported. What a definition says of itself goes into the request: its
docstring, or, where it has none, its signature and comments.
"""

import ast
import json
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

REQUESTS_MIN = 10_240
TEXT_LENGTH = 2_000
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "lib-dynload"})
INSTRUCTION = "Name the subject of this piece of Python documentation in one lower-case word."

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Subject(NamedTuple):
    """A definition by its full name, and what it says of itself."""

    name: str
    text: str


def subjects() -> list[Subject]:
    """What there is to ask about: everything public, and as much of the rest as makes it REQUESTS_MIN."""
    public: list[Subject] = []
    private: list[Subject] = []
    for module, path in modules(Path(sysconfig.get_path("stdlib"))):
        source = path.read_text(encoding="utf-8", errors="replace")
        lines = source.splitlines()
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue  # some libraries carry files that are meant not to compile
        for name, node in definitions(module, tree):
            if text := said_of(node, lines):
                (public if is_public(name) else private).append(Subject(name, text))
    return public + private[: max(0, REQUESTS_MIN - len(public))]


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module's name and file, without tests and what was installed later."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if SKIPPED_FOLDERS.isdisjoint(parts) and all(part.isidentifier() for part in parts):
            yield ".".join(part for part in parts if part != "__init__"), path


def definitions(name: str, node: ast.AST) -> Iterator[tuple[str, Definition]]:
    """A definition and those inside it, but not what is local to a function."""
    if isinstance(node, Definition):
        yield name, node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from definitions(f"{name}.{child.name}", child)
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from definitions(name, child)


def is_public(name: str) -> bool:
    """Whether no part of a name is marked as private."""
    return not any(part.startswith("_") for part in name.split("."))


def said_of(node: Definition, lines: list[str]) -> str:
    """The docstring; else signature and comments; empty for a module without either."""
    if docstring := ast.get_docstring(node):
        return docstring[:TEXT_LENGTH]
    if isinstance(node, ast.Module):
        return ""
    signature_end = max(node.body[0].lineno - 1, node.lineno)
    comments = [line.strip() for line in lines[signature_end : node.end_lineno] if line.strip().startswith("#")]
    return "\n".join([*lines[node.lineno - 1 : signature_end], *comments])[:TEXT_LENGTH]


def chat(model: str, text: str) -> tuple[str, dict[str, Any]]:
    """Endpoint and body of a request for one word."""
    messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}]
    return "/v1/chat/completions", {"model": model, "messages": messages, "max_completion_tokens": 8}


def request(number: int, text: str) -> tuple[str, dict[str, Any]]:
    """Endpoint and body: of twenty in a row, ten go to the small chat model, the others to four more lanes."""
    match number % 20:
        case 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9:
            return chat("gpt-4o-mini", text)
        case 10 | 11 | 12:
            return chat("gpt-4o", text)
        case 13 | 14 | 15 | 16:
            return "/v1/embeddings", {"model": "text-embedding-3-small", "input": text}
        case 17:
            return "/v1/embeddings", {"model": "text-embedding-3-large", "input": text}
        case _:
            return "/v1/moderations", {"model": "omni-moderation-latest", "input": text}


def request_lines(found: Iterable[Subject]) -> Iterator[bytes]:
    """A Batch API line for each subject; a name that was there before gets a number."""
    seen: Counter[str] = Counter()
    for number, subject in enumerate(found):
        seen[subject.name] += 1
        name = subject.name if seen[subject.name] == 1 else f"{subject.name}#{seen[subject.name]}"
        url, body = request(number, subject.text)
        yield json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body}).encode()


def broken_lines() -> list[bytes]:
    """Messages that cannot be requests, each for a reason of its own."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    good = {"custom_id": "broken", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return [
        b"this is no JSON",
        b'{"custom_id": "\xff"}',
        json.dumps({**good, "custom_id": ""}).encode(),
        json.dumps({**good, "url": "https://example.com/"}).encode(),
        json.dumps({**good, "method": "GET"}).encode(),
        json.dumps({**good, "body": {"messages": []}}).encode(),
        json.dumps({**good, "body": {**body, "stream": True}}).encode(),
    ]


def read_lines(input_file: Path | None) -> tuple[list[bytes], int | None]:
    """What to send, and how many of those cannot be requests, if that is known; blocking.

    Args:
        input_file: the user's own Batch API file; None takes the standard library's documentation.
    """
    if input_file is not None:
        lines = [line.strip() for line in input_file.read_bytes().split(b"\n")]
        return [line for line in lines if line], None
    broken = broken_lines()
    return [*request_lines(subjects()), *broken], len(broken)
