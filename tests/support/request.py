"""Requests to produce: each with a body of its own, as the checker takes them."""

from typing import Any

CANARY = "canary-3f9d1c"
"""Stands in every prompt made here, and must not be told by any log, metric or header."""
MODEL = "gpt-4o-mini"


def chat(custom_id: str, *, model: str = MODEL, words: int = 1) -> dict[str, Any]:
    """A chat completion."""
    content = f"{CANARY} {custom_id} " + "word " * words
    return line(custom_id, "/v1/chat/completions", model, messages=[{"role": "user", "content": content}])


def embedding(custom_id: str, *, inputs: int = 1, model: str = "text-embedding-3-small") -> dict[str, Any]:
    """Embeddings of so many inputs."""
    return line(custom_id, "/v1/embeddings", model, input=[f"{CANARY} {custom_id} {each}" for each in range(inputs)])


def moderation(custom_id: str, *, model: str = "omni-moderation-latest") -> dict[str, Any]:
    """A moderation."""
    return line(custom_id, "/v1/moderations", model, input=f"{CANARY} {custom_id}")


def line(custom_id: str, url: str, model: str, **body: Any) -> dict[str, Any]:
    """A Batch API line."""
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": model, **body}}
