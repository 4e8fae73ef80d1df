"""An operation of the API: its handler, with whatever the fault rules do to the call."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from batchsim.errors import ApiError, status_error_body
from batchsim.faults import Faults
from batchsim.rules import HttpFault

Handler = Callable[[Request], Awaitable[Response]]
NO_FAULT = HttpFault()


class Endpoint:
    """An ASGI application that serves one operation."""

    def __init__(self, operation: str, handler: Handler, faults: Faults) -> None:
        self.operation = operation
        self.handler = handler
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a call, its fault included."""
        request = Request(scope, receive, send)
        fault = await self.faults.for_call(self.operation, request) or NO_FAULT
        request.state.fault = fault
        if fault.delay_seconds:
            await asyncio.sleep(fault.delay_seconds)
        response: Response | None = None
        if fault.takes_effect:
            try:
                response = await self.handler(request)
            except ApiError as error:
                status = fault.missing_status if error.status == HTTPStatus.NOT_FOUND else None
                body = status_error_body(status) if status else error.body
                response = JSONResponse(body, status or error.status, error.headers)
            except ClientDisconnect:
                return
        if fault.answer_delay_seconds:
            await asyncio.sleep(fault.answer_delay_seconds)
        if fault.drop or fault.effect == "late":
            await drop_connection(request)
            return
        if fault.status is not None:
            body = status_error_body(fault.status, fault.code, fault.message, fault.param)
            response = JSONResponse(body, fault.status, fault.headers)
        assert response is not None, "a call without effect has a status or is dropped"
        if fault.without:
            response = without(response, fault.without)
        response.headers.update(fault.headers)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            await drain(request)
        await response(scope, receive, BrokenSend(request, send, fault))


def without(response: Response, fields: Sequence[str]) -> Response:
    """The same answer, some fields left out if it is a JSON object."""
    if not isinstance(response, JSONResponse):
        return response
    shown: object = msgspec.json.decode(bytes(response.body))
    if not isinstance(shown, dict):
        return response
    return JSONResponse({name: value for name, value in shown.items() if name not in fields}, response.status_code)


async def before_effect(request: Request) -> None:
    """Called by a handler when all is checked and nothing is changed yet: here a late effect waits, its client gone."""
    fault: HttpFault = request.state.fault
    if fault.effect == "late":
        await drop_connection(request)
        await asyncio.sleep(fault.late_seconds)


async def drop_connection(request: Request) -> None:
    """End the call's connection without a word."""
    request.state.transport.abort()
    await disconnected(request)


async def disconnected(request: Request) -> None:
    """Return when the server knows that the connection is gone: from then on, nothing sent is missed."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def drain(request: Request) -> None:
    """Read what is left of the request, so that a client that is still sending gets to read the answer."""
    try:
        async for _ in request.stream():
            pass
    except (RuntimeError, ClientDisconnect):
        return


class BrokenSend:
    """Sends an answer, its body cut, shortened or corrupt if the fault says so."""

    def __init__(self, request: Request, send: Send, fault: HttpFault) -> None:
        self.request = request
        self.send = send
        self.cut = fault.cut_after_bytes
        self.truncate = fault.truncate_to_bytes
        self.corrupt = fault.corrupt_at_byte
        self.sent = 0

    async def __call__(self, message: Message) -> None:
        """Send a part of an answer."""
        if message["type"] == "http.response.start" and self.truncate is not None:
            message = {**message, "headers": [pair for pair in message["headers"] if pair[0] != b"content-length"]}
        if message["type"] == "http.response.body":
            body = inverted(message.get("body", b""), self.corrupt, self.sent)
            bound = self.cut if self.cut is not None else self.truncate
            if bound is not None:
                body = body[: bound - self.sent]
            self.sent += len(body)
            message = {**message, "body": body}
            if self.cut is not None and self.sent >= self.cut:
                await self.send({**message, "more_body": True})
                self.request.state.transport.close()
                await disconnected(self.request)
                return
        await self.send(message)


def inverted(body: bytes, place: int | None, offset: int) -> bytes:
    """A part of a body, beginning at `offset`, with the byte at `place` of the whole inverted if it is in this part."""
    if place is None or not offset <= place < offset + len(body):
        return body
    changed = bytearray(body)
    changed[place - offset] ^= 0xFF
    return bytes(changed)
