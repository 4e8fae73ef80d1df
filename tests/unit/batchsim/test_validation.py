import json
from collections.abc import Iterable
from typing import Any

import pytest

from batchsim.records import Rejection
from batchsim.settings import Limits
from batchsim.validation import Accepted, Rejected, token_limit_rejection, validate

CHAT = "/v1/chat/completions"


def line(custom_id: object = "a", *, model: object = "gpt-4o", url: str = CHAT, **body: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": model, **body}}).encode()


def rejection(lines: Iterable[bytes], endpoint: str = CHAT, **limits: Any) -> Rejection:
    with pytest.raises(Rejected) as raised:
        validate(lines, endpoint, frozenset({"gpt-4o", "gpt-4o-mini", "embed"}), Limits(**limits))
    return raised.value.rejection


def test_a_good_file_is_counted() -> None:
    body = b'{"model": "gpt-4o"}'
    lines = [b'{"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":%b}\n' % (n, body) for n in (1, 2)]
    assert validate(lines, CHAT, frozenset(), Limits()) == Accepted(model="gpt-4o", requests=2, tokens=10)


@pytest.mark.parametrize(
    ("second", "code", "param"),
    [
        (b"{not json", "invalid_json_line", None),
        (b"", "invalid_json_line", None),
        (b"\xef\xbb\xbf" + line("b"), "invalid_json_line", None),
        (b'{"custom_id":"b","body":{"model":"\xff"}}', "invalid_json_line", None),
        (b'{"custom_id":"b","body":{"model":NaN}}', "invalid_json_line", None),
        (b'{"custom_id":"b","body":' + b"[" * 100_000, "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (line("a"), "duplicate_custom_id", "custom_id"),
        (line(None), "missing_required_parameter", "custom_id"),
        (line(""), "missing_required_parameter", "custom_id"),
        (line(7), "invalid_request", "custom_id"),
        (b'{"custom_id":"b","method":"POST","url":"%b"}' % CHAT.encode(), "missing_required_parameter", "body"),
        (b'{"custom_id":"b","method":"POST","url":"%b","body":[]}' % CHAT.encode(), "invalid_request", "body"),
        (b'{"custom_id":"b","method":"GET","url":"%b","body":{}}' % CHAT.encode(), "invalid_request", "method"),
        (line("b", url="/v1/responses"), "invalid_url", "url"),
        (line("b", model="gpt-4o-mini"), "mismatched_model", "body.model"),
        (line("b", model="nothing"), "model_not_found", "body.model"),
        (line("b", model=None), "invalid_request", "body.model"),
        (line("b", stream=True), "streaming_unsupported", "body.stream"),
    ],
)
def test_the_first_bad_line_is_told_with_its_code(second: bytes, code: str, param: str | None) -> None:
    told = rejection([line("a") + b"\n", second + b"\n", b"{worse\n"])
    assert (told.code, told.param, told.line) == (code, param, 2)


def test_an_empty_file_is_refused() -> None:
    assert rejection([]).code == "empty_file"


def test_too_many_requests_are_refused() -> None:
    assert rejection([line(str(number)) for number in range(4)], batch_requests=3).code == "request_limit_exceeded"


def test_embedding_inputs_are_counted_over_all_requests() -> None:
    lines = [line(str(n), model="embed", url="/v1/embeddings", input=["a", "b"]) for n in range(2)]
    assert validate(lines, "/v1/embeddings", frozenset(), Limits(embedding_inputs=4)).requests == 2
    assert rejection(lines, "/v1/embeddings", embedding_inputs=3).code == "request_limit_exceeded"


def test_the_token_limit_is_worded_as_the_api_words_it() -> None:
    assert token_limit_rejection("gpt-4o", "org-x", 90_000) == Rejection(
        "token_limit_exceeded",
        "Enqueued token limit reached for gpt-4o in organization org-x. Limit: 90,000 enqueued tokens. "
        "Please try again once some in_progress batches have been completed.",
    )
