"""Lines of a Batch API file: one request's line built, and a byte stream split on line feeds alone.

``str.splitlines`` and the SDK's ``iter_lines`` also split on U+2028 and U+0085, which are legal inside JSON strings.
"""

from collections.abc import Iterator

LF, CR = b"\n\r"  # as numbers: looking for bytes in bytes takes eight times as long


def one_line(body: bytes) -> bytes:
    """A JSON text as one line, of the same length and with every other byte kept.

    Line breaks can stand in valid JSON only as white space between tokens, so a blank says the same; numbers, escapes
    and the order of keys are not touched.
    """
    if LF in body or CR in body:
        return body.replace(b"\n", b" ").replace(b"\r", b" ")
    return body


class LineSplitter:
    """Splits blocks of bytes into lines, holding at most one unfinished line."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        """The lines finished by this block, without their line feeds; empty lines are kept (they count as bytes)."""
        lines = (self.rest + block if self.rest else block).split(b"\n")
        self.rest = lines.pop()
        return lines

    def close(self) -> Iterator[bytes]:
        """The last line, when the stream did not end in a line feed."""
        if self.rest:
            yield self.rest
        self.rest = b""
