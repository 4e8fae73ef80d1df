"""Messages that cannot be requests, each with its reason's code; docs/reference/dead-letters.md is a page of them."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from penstock.core.lane import EMBEDDINGS
from penstock.core.reasons import REASONS
from penstock.core.result import HEADERS_BYTES_MAX, KEY_BYTES_MAX
from penstock.core.wishes import HEADERS_MAX

URL = "/v1/responses"
BODY_BYTES_MAX = 2000
INPUTS_MAX = 3
LANES = f"""
models = ["m", "gpt-4o-mini"]

[defaults]
age_max_seconds = 0.5

[[lane]]
endpoint = "{EMBEDDINGS}"
inputs_max = {INPUTS_MAX}
"""
"""The lanes file that the messages below are judged by, beside a limit of `BODY_BYTES_MAX`."""


class Bad(NamedTuple):
    """A message, and the code of its dead letter."""

    value: bytes | None
    code: str
    headers: Sequence[tuple[str, bytes]] = ()
    key: bytes = b"key"


def line(body: bytes, url: str = URL) -> bytes:
    """A request with this body."""
    return b'{"custom_id":"a","url":"%b","body":%b}' % (url.encode(), body)


def embeddings(given: bytes) -> bytes:
    """A request for embeddings of this input."""
    return line(b'{"model":"m","input":%b}' % given, EMBEDDINGS)


def says(code: str, sentence: str) -> bool:
    """Whether this is the sentence of a reason, whatever its figures."""
    return bool(re.fullmatch(re.sub(r"\\{\w+\\}", r"\\w+", re.escape(REASONS[code])), sentence))


GOOD = line(b'{"model":"m"}')

VALUES = {
    "no value": Bad(None, "empty_value"),
    "an empty value": Bad(b"", "empty_value"),
    "no UTF-8": Bad(line(b'{"model":"m","input":"\xff"}'), "invalid_utf8"),
    "half a UTF-8 sequence": Bad(line(b'{"model":"m","input":"\xe2\x80"}'), "invalid_utf8"),
    "nested too deep": Bad(b"[" * 100_000, "nested_too_deep"),
    "a body nested too deep": Bad(
        line(b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested_too_deep"
    ),
    "a list around 200 others and a value": Bad(
        line(b'{"model":"m","x":' + b"[" * 199 + b"1" + b"]" * 199 + b"}"), "nested_too_deep"
    ),
    "a key twice": Bad(
        b'{"custom_id":"a","custom_id":"b","url":"/v1/responses","body":{"model":"m"}}', "duplicate_key"
    ),
    "a key of the body twice": Bad(line(b'{"model":"x","model":"m"}'), "duplicate_key"),
    "a key inside the body twice": Bad(line(b'{"model":"m","x":[{"y":1,"z":2,"y":1}]}'), "duplicate_key"),
    "a key twice, once escaped": Bad(line(b'{"model":"m","x":1,"\\u0078":1}'), "duplicate_key"),
    "no JSON": Bad(b"hello", "invalid_json"),
    "half an object": Bad(line(b'{"model":"m"}')[:-1], "invalid_json"),
    "JSON after a schema registry's frame": Bad(
        b"\x00\x00\x01\x86\xa1" + line(b'{"model":"m"}'), "schema_registry_frame"
    ),
    "Avro after a schema registry's frame": Bad(b"\x00\x00\x00\x00\x07\x02a\xff\xfe", "schema_registry_frame"),
    "a zero byte and no frame": Bad(b"\x00{}", "invalid_json"),
    "a list": Bad(b"[]", "not_an_object"),
    "a number": Bad(b"1", "not_an_object"),
    "two objects": Bad(line(b'{"model":"m"}') + b"{}", "invalid_json"),
    "a byte order mark": Bad(b"\xef\xbb\xbf" + line(b'{"model":"m"}'), "invalid_json"),
    "NaN": Bad(line(b'{"model":"m","x":NaN}'), "invalid_number"),
    "Infinity": Bad(line(b'{"model":"m","x":-Infinity}'), "invalid_number"),
    "a leading zero": Bad(line(b'{"model":"m","x":01}'), "invalid_json"),
    "a trailing comma": Bad(line(b'{"model":"m",}'), "invalid_json"),
    "a line feed inside a text": Bad(line(b'{"model":"m","x":"a\nb"}'), "invalid_json"),
    "an unknown escape": Bad(line(b'{"model":"m","x":"\\x"}'), "invalid_json"),
    "no custom_id": Bad(b'{"url":"/v1/responses","body":{"model":"m"}}', "missing_custom_id"),
    "a number as custom_id": Bad(b'{"custom_id":1,"url":"/v1/responses","body":{"model":"m"}}', "missing_custom_id"),
    "an empty custom_id": Bad(b'{"custom_id":"","url":"/v1/responses","body":{"model":"m"}}', "invalid_custom_id"),
    "a long custom_id": Bad(
        b'{"custom_id":"%b","url":"/v1/responses","body":{"model":"m"}}' % ("é" * 257).encode(),
        "invalid_custom_id",
    ),
    "half a pair as custom_id": Bad(
        b'{"custom_id":"\\ud800","url":"/v1/responses","body":{"model":"m"}}',
        "invalid_custom_id",
    ),
    "no url": Bad(b'{"custom_id":"a","body":{"model":"m"}}', "missing_url"),
    "null as url": Bad(b'{"custom_id":"a","url":null,"body":{"model":"m"}}', "missing_url"),
    "an unknown url": Bad(line(b'{"model":"m"}', "/v1/files"), "invalid_url"),
    "a whole address as url": Bad(line(b'{"model":"m"}', "http://h/v1/responses"), "invalid_url"),
    "GET": Bad(b'{"custom_id":"a","method":"GET","url":"/v1/responses","body":{"model":"m"}}', "invalid_method"),
    "a number as method": Bad(
        b'{"custom_id":"a","method":1,"url":"/v1/responses","body":{"model":"m"}}',
        "invalid_method",
    ),
    "no body": Bad(b'{"custom_id":"a","url":"/v1/responses"}', "missing_body"),
    "a text as body": Bad(line(b'"{}"'), "missing_body"),
    "no model": Bad(line(b"{}"), "missing_model"),
    "a number as model": Bad(line(b'{"model":4}'), "missing_model"),
    "an empty model": Bad(line(b'{"model":""}'), "missing_model"),
    "a long model": Bad(line(b'{"model":"%b"}' % (b"m" * 513)), "missing_model"),
    "a model with NUL": Bad(line(b'{"model":"m\\u0000"}'), "missing_model"),
    "a model with half a pair": Bad(line(b'{"model":"\\ud800"}'), "missing_model"),
    "a stream": Bad(line(b'{"model":"m","stream":true}'), "streaming_unsupported"),
    "a text as stream": Bad(line(b'{"model":"m","stream":"no"}'), "streaming_unsupported"),
    "a large body": Bad(line(b'{"model":"m","input":"%b"}' % (b"x" * 2000)), "body_too_large"),
    "null as embeddings input": Bad(embeddings(b"null"), "invalid_input"),
    "an object as embeddings input": Bad(embeddings(b"{}"), "invalid_input"),
    "no embeddings input": Bad(line(b'{"model":"m"}', EMBEDDINGS), "invalid_input"),
}
"""Those that the value alone tells."""

OTHERS = {
    "too many inputs": Bad(embeddings(b'["a","b","c","d"]'), "too_many_inputs"),
    "a model that is not configured": Bad(line(b'{"model":"another"}'), "model_not_allowed"),
    "too many headers": Bad(GOOD, "headers_too_large", [("h", b"")] * (HEADERS_MAX + 1)),
    "too large headers": Bad(GOOD, "headers_too_large", [("h", bytes(HEADERS_BYTES_MAX))]),
    "a key that is too long": Bad(GOOD, "key_too_large", key=bytes(KEY_BYTES_MAX + 1)),
    "a result topic that is not configured": Bad(
        GOOD, "result_topic_not_allowed", [("penstock-result-topic", b"theirs")]
    ),
    "a result topic that is no UTF-8": Bad(GOOD, "result_topic_not_allowed", [("penstock-result-topic", b"\xff")]),
    "a deadline that is no number": Bad(GOOD, "invalid_deadline", [("penstock-deadline-seconds", b"soon")]),
    "a deadline of nothing": Bad(GOOD, "invalid_deadline", [("penstock-deadline-seconds", b"0")]),
    "a deadline that never comes": Bad(GOOD, "invalid_deadline", [("penstock-deadline-seconds", b"inf")]),
    "a priority that there is not": Bad(GOOD, "invalid_priority", [("penstock-priority", b"urgent")]),
    "a priority in capitals": Bad(GOOD, "invalid_priority", [("penstock-priority", b"High")]),
    "an empty priority": Bad(GOOD, "invalid_priority", [("penstock-priority", b"")]),
}
"""Those that the lane, the key or a header tells."""

BAD = VALUES | OTHERS
LATER = {
    "a request of one model or endpoint more than may wait": "lane_limit",
    "a result that its topic does not take": "result_too_large",
}
"""What is found when the message was good: see tests/integration/test_bridge.py and test_oversize.py."""
