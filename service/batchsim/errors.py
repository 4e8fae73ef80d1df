"""Errors as the OpenAI API words and shapes them."""

from http import HTTPStatus
from typing import Any


class ApiError(Exception):
    """An HTTP error answer of the API: raised by a handler, sent as `{"error": {...}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error_type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, error_type, param, code)
        self.headers = headers or {}


TYPE_BY_STATUS = {
    HTTPStatus.TOO_MANY_REQUESTS: "requests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "service_unavailable_error",
}
CODE_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: "invalid_api_key",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_exceeded",
}
MESSAGE_BY_STATUS = {
    HTTPStatus.BAD_REQUEST: "Invalid request.",
    HTTPStatus.UNAUTHORIZED: "Incorrect API key provided.",
    HTTPStatus.FORBIDDEN: "You are not allowed to use this resource.",
    HTTPStatus.NOT_FOUND: "The requested resource does not exist.",
    HTTPStatus.CONFLICT: "The resource was updated by another request.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The request could not be processed.",
    HTTPStatus.TOO_MANY_REQUESTS: "Rate limit reached. Please try again later.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The server had an error while processing your request. Sorry about that!",
    HTTPStatus.SERVICE_UNAVAILABLE: "The engine is currently overloaded, please try again later.",
}


def error_body(message: str, error_type: str, param: str | None, code: str | None) -> dict[str, Any]:
    """The body of every error answer."""
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def status_error_body(
    status: int, code: str | None = None, message: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The error body that goes with a status, where only the status is prescribed."""
    server_side = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    known = next((one for one in HTTPStatus if one == status), None)
    return error_body(
        message or (MESSAGE_BY_STATUS.get(known) if known else None) or f"The request failed with status {status}.",
        (TYPE_BY_STATUS.get(known) if known else None) or ("server_error" if server_side else "invalid_request_error"),
        param,
        code or (CODE_BY_STATUS.get(known) if known else None),
    )


def missing_parameter(name: str) -> ApiError:
    """A required parameter is absent."""
    return ApiError(
        HTTPStatus.BAD_REQUEST, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
    )


def unsupported_value(name: str, value: object, supported: list[str]) -> ApiError:
    """A parameter has a value outside its list."""
    values = ", ".join(f"'{one}'" for one in supported)
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        f"Invalid value: '{value}'. Supported values are: {values}.",
        param=name,
        code="invalid_value",
    )


def outside_range(name: str, value: int, minimum: int, maximum: int) -> ApiError:
    """An integer parameter is below its minimum or above its maximum."""
    above = value > maximum
    side, sign, bound = ("above maximum", "<=", maximum) if above else ("below minimum", ">=", minimum)
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        f"Invalid '{name}': integer {side} value. Expected a value {sign} {bound}, but got {value} instead.",
        param=name,
        code="integer_above_max_value" if above else "integer_below_min_value",
    )


def invalid_type(name: str, expected: str, value: object) -> ApiError:
    """A parameter has another type than it takes."""
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        f"Invalid type for '{name}': expected {expected}, but got {json_type(value)} instead.",
        param=name,
        code="invalid_type",
    )


def json_type(value: object) -> str:
    """What JSON calls a decoded value's type, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
