"""Parameters in a query string."""

from starlette.requests import Request

from batchsim.errors import ApiError, outside_range


def integer_parameter(request: Request, name: str, default: int, minimum: int, maximum: int) -> int:
    """An integer of the query string.

    Raises:
        ApiError: 400 when it is no integer or outside its range.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        message = f"Invalid type for '{name}': expected an integer, but got a string instead."
        raise ApiError(400, message, param=name, code="invalid_type") from None
    if not minimum <= value <= maximum:
        raise outside_range(name, value, minimum, maximum)
    return value
