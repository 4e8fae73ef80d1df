"""A grey PNG picture of a few pixels, for answers that carry images."""

from struct import pack
from zlib import compress, crc32

WIDTH = 8


def grey_png(pixels: bytes) -> bytes:
    """A valid PNG of 8 pixels' width whose grey values are the given bytes (a multiple of 8)."""
    assert len(pixels) % WIDTH == 0, "pixels fill whole rows"
    rows = b"".join(b"\0" + pixels[start : start + WIDTH] for start in range(0, len(pixels), WIDTH))
    header = pack(">IIBBBBB", WIDTH, len(pixels) // WIDTH, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in parts)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One length-prefixed, checksummed chunk."""
    return pack(">I", len(data)) + kind + data + pack(">I", crc32(kind + data))
