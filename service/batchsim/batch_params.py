"""The parameters of a new batch, checked as the API checks them."""

from typing import Any

import msgspec

from batchsim.errors import ApiError, invalid_type, missing_parameter, outside_range, unsupported_value
from batchsim.validation import ENDPOINTS

WINDOWS = ["24h"]
METADATA_PAIRS_MAX = 16
METADATA_KEY_MAX = 64
METADATA_VALUE_MAX = 512
EXPIRY_SECONDS_MIN = 3_600
EXPIRY_SECONDS_MAX = 2_592_000


class BatchParams(msgspec.Struct, frozen=True):
    """What a batch is created from."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    output_expires_after_seconds: int | None


def parse_batch_params(body: bytes) -> BatchParams:
    """Read the body of a create.

    Raises:
        ApiError: 400 with the first parameter that is wrong.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise ApiError(400, "We could not parse the JSON body of your request. The API expects a JSON payload.")
    input_file_id = required_string(decoded, "input_file_id")
    endpoint = required_string(decoded, "endpoint")
    if endpoint not in ENDPOINTS:
        raise unsupported_value("endpoint", endpoint, list(ENDPOINTS))
    window = required_string(decoded, "completion_window")
    if window not in WINDOWS:
        raise unsupported_value("completion_window", window, WINDOWS)
    metadata = decoded.get("metadata")
    if metadata is not None:
        check_metadata(metadata)
    return BatchParams(
        input_file_id, endpoint, window, metadata, output_expiry_seconds(decoded.get("output_expires_after"))
    )


def required_string(decoded: dict[str, Any], name: str) -> str:
    """A string parameter that must be there."""
    value = decoded.get(name)
    if value is None:
        raise missing_parameter(name)
    if not isinstance(value, str):
        raise invalid_type(name, "a string", value)
    return value


def check_metadata(metadata: object) -> None:
    """At most 16 pairs of strings, keys up to 64 and values up to 512 characters."""
    if not isinstance(metadata, dict):
        raise invalid_type("metadata", "an object", metadata)
    if len(metadata) > METADATA_PAIRS_MAX:
        message = (
            "Invalid 'metadata': too many properties. "
            f"Expected an object with at most {METADATA_PAIRS_MAX} properties, "
            f"but got an object with {len(metadata)} properties instead."
        )
        raise ApiError(400, message, param="metadata", code="object_above_max_properties")
    for key, value in metadata.items():
        if len(key) > METADATA_KEY_MAX:
            raise too_long("metadata", "property name", METADATA_KEY_MAX, len(key))
        if not isinstance(value, str):
            raise invalid_type(f"metadata.{key}", "a string", value)
        if len(value) > METADATA_VALUE_MAX:
            raise too_long(f"metadata.{key}", "string", METADATA_VALUE_MAX, len(value))


def too_long(name: str, what: str, maximum: int, length: int) -> ApiError:
    """A string is longer than it may be."""
    message = (
        f"Invalid '{name}': {what} too long. Expected a string with maximum length {maximum}, "
        f"but got a string with length {length} instead."
    )
    return ApiError(400, message, param=name, code="string_above_max_length")


def output_expiry_seconds(value: object) -> int | None:
    """After how many seconds the result files expire, if the create says so."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid_type("output_expires_after", "an object", value)
    if value.get("anchor") != "created_at":
        raise unsupported_value("output_expires_after.anchor", value.get("anchor"), ["created_at"])
    seconds = value.get("seconds")
    if seconds is None:
        raise missing_parameter("output_expires_after.seconds")
    if not isinstance(seconds, int):
        raise invalid_type("output_expires_after.seconds", "an integer", seconds)
    if not EXPIRY_SECONDS_MIN <= seconds <= EXPIRY_SECONDS_MAX:
        raise outside_range("output_expires_after.seconds", seconds, EXPIRY_SECONDS_MIN, EXPIRY_SECONDS_MAX)
    return seconds
