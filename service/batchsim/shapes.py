"""The shape of a successful answer, endpoint by endpoint, filled from the request's digest."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256, shake_256
from math import hypot
from struct import pack, unpack
from typing import Any

from batchsim.png import grey_png

LABELS = ("positive", "negative", "neutral", "mixed", "question", "complaint", "praise", "spam")
CREATED_FROM = 1_750_000_000
BYTES_PER_TOKEN = 4
LABEL_TOKENS = 8
IMAGE_TOKENS = 272
IMAGES_MAX = 10
CATEGORIES = {
    "harassment": ["text"],
    "harassment/threatening": ["text"],
    "hate": ["text"],
    "hate/threatening": ["text"],
    "illicit": ["text"],
    "illicit/violent": ["text"],
    "self-harm": ["text", "image"],
    "self-harm/instructions": ["text", "image"],
    "self-harm/intent": ["text", "image"],
    "sexual": ["text", "image"],
    "sexual/minors": ["text"],
    "violence": ["text", "image"],
    "violence/graphic": ["text", "image"],
}


class InvalidInput(ValueError):
    """The body lacks a parameter, or holds one that its endpoint does not take: the answer is a 400."""

    def __init__(self, message: str, param: str, code: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Question:
    """A request as the shapes see it."""

    digest: str
    body: dict[str, Any]
    body_bytes: int
    embedding_dimensions: int

    @property
    def model(self) -> str:
        """The model of the body, "" without one."""
        return str(self.body.get("model", ""))

    @property
    def created(self) -> int:
        """A Unix time that depends on the digest alone."""
        return CREATED_FROM + int(self.digest[:6], 16)

    @property
    def label(self) -> str:
        """The text of an answer, one line: a word and the first 16 digits of the digest."""
        return f"{LABELS[int(self.digest[0], 16) % len(LABELS)]} {self.digest[:16]}"

    @property
    def input_tokens(self) -> int:
        """Prompt tokens: a quarter of the body's bytes, rounded up."""
        return -(-self.body_bytes // BYTES_PER_TOKEN)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens found in the cache: none or a quarter of them."""
        return self.input_tokens // 4 if int(self.digest[1], 16) % 2 else 0

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens spent on reasoning, 0 to 15."""
        return int(self.digest[2], 16)

    def require(self, name: str) -> Any:
        """The value of a required parameter.

        Raises:
            InvalidInput: when it is absent or null.
        """
        value = self.body.get(name)
        if value is None:
            raise InvalidInput(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
        return value

    def count(self, name: str) -> int:
        """The value of an optional parameter that counts answers, 1 to 10."""
        value = self.body.get(name)
        if value is None:
            return 1
        if not isinstance(value, int) or not 1 <= value <= IMAGES_MAX:
            raise InvalidInput(f"Invalid '{name}': expected an integer from 1 to 10.", name, "invalid_value")
        return value


def chat_completion(question: Question) -> dict[str, Any]:
    """`/v1/chat/completions`: a one-line label."""
    question.require("messages")
    message: dict[str, Any] = {"role": "assistant", "content": question.label, "refusal": None, "annotations": []}
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}
        for index in range(question.count("n"))
    ]
    return {
        "id": "chatcmpl-" + question.digest[:32],
        "object": "chat.completion",
        "created": question.created,
        "model": question.model,
        "choices": choices,
        "usage": completion_usage(question),
        "service_tier": "default",
        "system_fingerprint": "fp_" + question.digest[-10:],
    }


def completion(question: Question) -> dict[str, Any]:
    """`/v1/completions`: a one-line label."""
    question.require("prompt")
    return {
        "id": "cmpl-" + question.digest[:32],
        "object": "text_completion",
        "created": question.created,
        "model": question.model,
        "choices": [
            {"text": question.label, "index": index, "logprobs": None, "finish_reason": "stop"}
            for index in range(question.count("n"))
        ],
        "usage": completion_usage(question),
        "system_fingerprint": "fp_" + question.digest[-10:],
    }


def completion_usage(question: Question) -> dict[str, Any]:
    """The usage of the completion endpoints."""
    output_tokens = LABEL_TOKENS + question.reasoning_tokens
    return {
        "prompt_tokens": question.input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": question.input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": question.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": question.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def response(question: Question) -> dict[str, Any]:
    """`/v1/responses`: one message with a one-line label."""
    question.require("input")
    output_tokens = LABEL_TOKENS + question.reasoning_tokens
    text = {"type": "output_text", "annotations": [], "logprobs": [], "text": question.label}
    message = {
        "id": "msg_" + question.digest[32:],
        "type": "message",
        "status": "completed",
        "content": [text],
        "role": "assistant",
    }
    return {
        "id": "resp_" + question.digest[:32],
        "object": "response",
        "created_at": question.created,
        "completed_at": question.created + 1,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": question.model,
        "output": [message],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": "default",
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": question.input_tokens,
            "input_tokens_details": {"cached_tokens": question.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": question.reasoning_tokens},
            "total_tokens": question.input_tokens + output_tokens,
        },
        "metadata": {},
    }


def embeddings(question: Question) -> dict[str, Any]:
    """`/v1/embeddings`: as many unit vectors as there are inputs."""
    inputs = embedding_inputs(question.require("input"))
    if inputs == 0:
        raise InvalidInput("Invalid 'input': it must not be empty.", "input", "invalid_value")
    dimensions = question.body.get("dimensions") or question.embedding_dimensions
    if not isinstance(dimensions, int) or dimensions < 1:
        raise InvalidInput("Invalid 'dimensions': expected a positive integer.", "dimensions", "invalid_value")
    packed = question.body.get("encoding_format") == "base64"
    data = []
    for index in range(inputs):
        vector = unit_vector(question.digest, index, dimensions)
        value = b64encode(pack(f"<{dimensions}f", *vector)).decode() if packed else vector
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": question.input_tokens, "total_tokens": question.input_tokens}
    return {"object": "list", "data": data, "model": question.model, "usage": usage}


def embedding_inputs(value: object) -> int:
    """How many inputs, hence vectors, an embeddings request has: a string or a list of tokens is one."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        return len(value)
    return 1 if value else 0


def unit_vector(digest: str, index: int, dimensions: int) -> list[float]:
    """A vector of length 1 that depends on the digest and the input's index alone."""
    raw = shake_256(f"{digest}:{index}".encode()).digest(2 * dimensions)
    components = unpack(f">{dimensions}h", raw)
    length = hypot(*components) or 1.0
    return [component / length for component in components]


def moderation(question: Question) -> dict[str, Any]:
    """`/v1/moderations`: a result per text, or one for a list of parts."""
    value = question.require("input")
    texts = len(value) if isinstance(value, list) and value and isinstance(value[0], str) else 1
    results = [moderation_result(f"{question.digest}:{index}") for index in range(texts)]
    return {"id": "modr-" + question.digest[:32], "model": question.model, "results": results}


def moderation_result(key: str) -> dict[str, Any]:
    """Scores from a hash; a score over 0.9 flags its category."""
    draws = sha256(key.encode()).digest()
    scores = {category: draws[place] / 256 for place, category in enumerate(CATEGORIES)}
    categories = {category: score > 0.9 for category, score in scores.items()}  # noqa: PLR2004  said above
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": CATEGORIES,
    }


def images(question: Question) -> dict[str, Any]:
    """`/v1/images/generations` and `/v1/images/edits`: PNG pictures whose pixels are hashes of the digest."""
    question.require("prompt")
    count = question.count("n")
    pictures = [sha256(f"{question.digest}:{index}".encode()).digest() for index in range(count)]
    output_tokens = IMAGE_TOKENS * count
    return {
        "created": question.created,
        "background": "opaque",
        "data": [{"b64_json": b64encode(grey_png(pixels)).decode()} for pixels in pictures],
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "usage": {
            "input_tokens": question.input_tokens,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": question.input_tokens},
            "output_tokens": output_tokens,
            "output_tokens_details": {"image_tokens": output_tokens, "text_tokens": 0},
            "total_tokens": question.input_tokens + output_tokens,
        },
    }


def video(question: Question) -> dict[str, Any]:
    """`/v1/videos`: a finished video job."""
    prompt = question.require("prompt")
    return {
        "id": "video_" + question.digest[:32],
        "object": "video",
        "created_at": question.created,
        "completed_at": question.created + 60,
        "expires_at": question.created + 3600,
        "error": None,
        "model": question.model,
        "progress": 100,
        "prompt": str(prompt),
        "remixed_from_video_id": None,
        "seconds": str(question.body.get("seconds") or "4"),
        "size": str(question.body.get("size") or "720x1280"),
        "status": "completed",
    }


SHAPES: dict[str, Callable[[Question], dict[str, Any]]] = {
    "/v1/responses": response,
    "/v1/chat/completions": chat_completion,
    "/v1/embeddings": embeddings,
    "/v1/completions": completion,
    "/v1/moderations": moderation,
    "/v1/images/generations": images,
    "/v1/images/edits": images,
    "/v1/videos": video,
}
