import base64
import json
import math
import struct
from typing import Any

import pytest
from openai import BaseModel
from openai.types import (
    Completion,
    CreateEmbeddingResponse,
    ImagesResponse,
    ModerationCreateResponse,
    Video,
)
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from batchsim.answer import answer, request_digest
from batchsim.records import Usage

CASES: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "/v1/chat/completions": (ChatCompletion, {"model": "gpt-4o", "messages": [], "n": 2}),
    "/v1/responses": (Response, {"model": "gpt-4o", "input": "hello"}),
    "/v1/embeddings": (CreateEmbeddingResponse, {"model": "text-embedding-3-small", "input": ["a", "b"]}),
    "/v1/completions": (Completion, {"model": "gpt-3.5-turbo-instruct", "prompt": "hello"}),
    "/v1/moderations": (ModerationCreateResponse, {"model": "omni-moderation-latest", "input": ["a", "b"]}),
    "/v1/images/generations": (ImagesResponse, {"model": "gpt-image-1", "prompt": "a mill", "n": 2}),
    "/v1/images/edits": (ImagesResponse, {"model": "gpt-image-1", "prompt": "a mill"}),
    "/v1/videos": (Video, {"model": "sora-2", "prompt": "a mill"}),
}


def assert_no_unknown_field(value: object) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{type(value).__name__} has unknown fields {value.model_extra}"
        for name in type(value).model_fields:
            assert_no_unknown_field(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            assert_no_unknown_field(one)


@pytest.mark.parametrize("url", CASES)
def test_an_answer_has_the_shape_that_the_sdk_expects(url: str) -> None:
    shape, body = CASES[url]
    status_code, answered = answer(url, json.dumps(body).encode())
    assert status_code == 200
    assert_no_unknown_field(shape.model_validate(answered, strict=True))


@pytest.mark.parametrize("url", CASES)
def test_an_answer_depends_on_every_byte_of_the_body_and_on_nothing_else(url: str) -> None:
    body = json.dumps(CASES[url][1]).encode()
    assert answer(url, body) == answer(url, body)
    assert answer(url, body).body != answer(url, body + b" ").body


@pytest.mark.parametrize("url", CASES)
def test_an_answer_carries_the_digest_of_its_request(url: str) -> None:
    body = json.dumps(CASES[url][1]).encode()
    digest = request_digest(url, body)
    answered = answer(url, body).body
    match url:
        case "/v1/embeddings":
            raw = struct.pack(">8d", *answered["data"][0]["embedding"])
            assert raw != struct.pack(">8d", *answer(url, body + b" ").body["data"][0]["embedding"])
        case "/v1/images/generations" | "/v1/images/edits":
            assert base64.b64decode(answered["data"][0]["b64_json"]).startswith(b"\x89PNG\r\n\x1a\n")
        case _:
            assert answered["id"].endswith(digest[:32])


def test_a_chat_answer_is_a_label_of_one_line_with_the_digest() -> None:
    body = b'{"model":"gpt-4o","messages":[]}'
    content = answer("/v1/chat/completions", body).body["choices"][0]["message"]["content"]
    word, digits = content.split(" ")
    assert word.isalpha()
    assert digits == request_digest("/v1/chat/completions", body)[:16]


def test_the_url_is_part_of_the_digest() -> None:
    assert request_digest("/v1/responses", b"{}") != request_digest("/v1/completions", b"{}")


@pytest.mark.parametrize(
    ("value", "vectors"),
    [("text", 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1, 2], [3]], 2)],
)
def test_there_are_as_many_vectors_as_inputs(value: object, vectors: int) -> None:
    body = json.dumps({"model": "m", "input": value}).encode()
    data = answer("/v1/embeddings", body).body["data"]
    assert [one["index"] for one in data] == list(range(vectors))


def test_vectors_are_of_length_one_and_of_the_dimensions_asked_for() -> None:
    body = b'{"model":"m","input":["a","b"],"dimensions":256}'
    first, second = (one["embedding"] for one in answer("/v1/embeddings", body).body["data"])
    assert len(first) == len(second) == 256
    assert first != second
    assert math.isclose(math.hypot(*first), 1.0)


def test_vectors_have_the_configured_dimensions_where_the_body_asks_for_none() -> None:
    body = b'{"model":"m","input":"a"}'
    assert len(answer("/v1/embeddings", body, embedding_dimensions=5).body["data"][0]["embedding"]) == 5


def test_vectors_come_packed_when_asked_for() -> None:
    plain = answer("/v1/embeddings", b'{"model":"m","input":"a"}').body["data"][0]["embedding"]
    assert len(plain) == 8
    packed = answer("/v1/embeddings", b'{"model":"m","input":"a","encoding_format":"base64"}').body["data"][0]
    assert len(base64.b64decode(packed["embedding"])) == 4 * 8


@pytest.mark.parametrize(
    ("url", "body", "param"),
    [
        ("/v1/chat/completions", b'{"model":"m"}', "messages"),
        ("/v1/responses", b'{"model":"m"}', "input"),
        ("/v1/embeddings", b'{"model":"m"}', "input"),
        ("/v1/embeddings", b'{"model":"m","input":[]}', "input"),
        ("/v1/embeddings", b'{"model":"m","input":"a","dimensions":"x"}', "dimensions"),
        ("/v1/completions", b'{"model":"m"}', "prompt"),
        ("/v1/moderations", b'{"model":"m"}', "input"),
        ("/v1/images/generations", b'{"model":"m"}', "prompt"),
        ("/v1/images/generations", b'{"model":"m","prompt":"a","n":11}', "n"),
        ("/v1/videos", b'{"model":"m"}', "prompt"),
    ],
)
def test_a_body_that_lacks_what_its_endpoint_requires_is_refused_by_name(url: str, body: bytes, param: str) -> None:
    status_code, answered = answer(url, body)
    assert status_code == 400
    assert answered["error"]["param"] == param
    assert request_digest(url, body)[:32] in answered["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[1]", b"nothing"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert answer("/v1/responses", body).status_code == 400


def test_an_unknown_url_is_not_found() -> None:
    assert answer("/v1/unknown", b"{}").status_code == 404


@pytest.mark.parametrize("url", CASES)
def test_usage_is_read_from_every_endpoint(url: str) -> None:
    usage = Usage()
    usage.add(answer(url, json.dumps(CASES[url][1]).encode()).body)
    counts_tokens = url not in {"/v1/moderations", "/v1/videos"}
    assert (usage.input_tokens > 0) == counts_tokens
    assert (usage.output_tokens > 0) == (counts_tokens and url != "/v1/embeddings")
