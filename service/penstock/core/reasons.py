"""Why a message or a result is a dead letter: each reason's code, and the sentence that says the mend.

The codes are stable: header values, metric labels, and rows of docs/reference/dead-letters.md.
"""

from penstock.core.errors import RejectedMessage

REASONS = {
    "empty_value": "The message has no value; send a Batch API line as JSON.",
    "invalid_utf8": "The value is not valid UTF-8; encode it so, and without surrogates.",
    "invalid_json": "The value is not valid JSON; send one object and nothing before or after it.",
    "schema_registry_frame": "The value begins with a zero byte and a schema id, the frame of a schema registry's"
    " serializer; send the JSON alone, with a serializer that adds no frame.",
    "invalid_number": "The value holds NaN or Infinity, which are no JSON; send null or leave the member out.",
    "not_an_object": "The value is JSON but no object; send a Batch API line.",
    "duplicate_key": "An object in the value has a key twice; send each key once.",
    "nested_too_deep": "The value is nested deeper than {limit} levels; send a flatter one.",
    "missing_custom_id": "custom_id must be given, as a text.",
    "invalid_custom_id": "custom_id must have 1 to {limit} bytes of valid Unicode.",
    "missing_url": "url must be given, as a text.",
    "invalid_url": "url must be one of the Batch API's endpoints, such as /v1/responses.",
    "invalid_method": "method must be POST or left out.",
    "missing_body": "body must be given, as an object.",
    "missing_model": "body.model must name a model, in at most {limit} characters, none of them a control character.",
    "streaming_unsupported": "body.stream must be false or left out: a batch cannot stream.",
    "invalid_input": "body.input must be a text or a list.",
    "body_too_large": "body has more than {limit} bytes; split the request.",
    "too_many_inputs": "body.input has more than {limit} inputs, which no batch takes; split the request.",
    "model_not_allowed": "body.model is not among the models that are configured.",
    "lane_limit": "Too many different models and endpoints wait already; send it again later.",
    "headers_too_large": "A message may carry {count} headers of {limit} bytes together; send fewer.",
    "key_too_large": "A message's key may have {limit} bytes; send a shorter one.",
    "result_topic_not_allowed": "The header penstock-result-topic must name a configured topic.",
    "invalid_deadline": "The header penstock-deadline-seconds must be a number above 0, such as 3600 or 0.5.",
    "invalid_priority": "The header penstock-priority must be high, normal or low.",
    "result_too_large": "The result has {size} bytes, more than {topic} takes; the provider's file keeps it.",
}


def reason(code: str, **values: object) -> str:
    """The sentence of a reason, with its figures."""
    return REASONS[code].format(**values)


def rejected(code: str, **values: object) -> RejectedMessage:
    """What to raise for a message that cannot be a request; ``values`` are the sentence's figures."""
    return RejectedMessage(code, reason(code, **values))
