"""Receiving an upload: a multipart body written to disk as it comes in, never held in memory."""

import os
from asyncio import to_thread
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from batchsim.errors import ApiError, missing_parameter

FIELD_BYTES_MAX = 65_536


class Upload:
    """A multipart form with one file, `file`, whose bytes go to a path. Parts that are no file become `fields`."""

    def __init__(self, path: Path, boundary: bytes, bytes_max: Callable[[dict[str, str]], int]) -> None:
        self.path = path
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.bytes = 0
        self.bytes_max = bytes_max
        self.sink: BinaryIO = path.open("wb", buffering=0)
        self.header_name = b""
        self.header_value = b""
        self.part_name = ""
        self.part_is_file = False
        self.field = bytearray()
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self.part_begun,
                "on_header_field": self.header_name_read,
                "on_header_value": self.header_value_read,
                "on_header_end": self.header_ended,
                "on_part_data": self.data_read,
                "on_part_end": self.part_ended,
            },
        )

    @property
    def is_too_large(self) -> bool:
        """Whether the file is beyond its limit; what is beyond is not written."""
        return self.bytes > self.bytes_max(self.fields)

    def part_begun(self) -> None:
        """A part begins."""
        self.part_name, self.part_is_file = "", False
        self.field.clear()

    def header_name_read(self, data: bytes, start: int, end: int) -> None:
        """A piece of a part's header name."""
        self.header_name += data[start:end]

    def header_value_read(self, data: bytes, start: int, end: int) -> None:
        """A piece of a part's header value."""
        self.header_value += data[start:end]

    def header_ended(self) -> None:
        """A part's header is complete: the disposition names the part."""
        if self.header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self.header_value)
            self.part_name = options.get(b"name", b"").decode(errors="replace")
            filename = options.get(b"filename")
            if filename is not None and self.part_name == "file":
                self.part_is_file = True
                self.filename = filename.decode(errors="replace")
        self.header_name = self.header_value = b""

    def data_read(self, data: bytes, start: int, end: int) -> None:
        """A piece of a part's data: of the file, straight to disk."""
        if self.part_is_file:
            self.bytes += end - start
            if not self.is_too_large:
                piece = memoryview(data)[start:end]
                while piece:
                    piece = piece[self.sink.write(piece) :]
        elif len(self.field) + end - start <= FIELD_BYTES_MAX:
            self.field += data[start:end]

    def part_ended(self) -> None:
        """A part is complete."""
        if not self.part_is_file:
            self.fields[self.part_name] = self.field.decode(errors="replace")

    async def receive(self, request: Request) -> None:
        """Take in the whole body, then sync the file.

        Raises:
            ApiError: 400 when the body is no multipart form with a file, or the file is too large.
            ClientDisconnect: when the client leaves before the end.
        """
        try:
            async for chunk in request.stream():
                self.parser.write(chunk)
            self.parser.finalize()
        except MultipartParseError:
            raise ApiError(400, "Could not parse multipart form.") from None
        if self.filename is None:
            raise missing_parameter("file")
        if self.is_too_large:
            raise ApiError(400, "File is too large.")
        await to_thread(os.fsync, self.sink.fileno())

    def shorten(self, size: int) -> None:
        """Forget what is beyond so many bytes, which are no more than there are."""
        self.bytes = size
        self.sink.truncate(size)

    def close(self) -> None:
        """Close the file."""
        self.sink.close()


def boundary_of(request: Request) -> bytes:
    """The boundary of a multipart request.

    Raises:
        ApiError: 400 when it is none.
    """
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type != b"multipart/form-data" or b"boundary" not in options:
        raise ApiError(400, "Invalid file format. Send the file as multipart/form-data.")
    return options[b"boundary"]
