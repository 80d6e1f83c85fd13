"""Structural checks of encoded images: signature, size in pixels, and whether the end is there. Nothing is decoded."""

import struct
from dataclasses import dataclass

MAX_PIXELS = 1 << 28

PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of JPEG: SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC).
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Header:
    """What an image's header says: `format` as in "png", `width` and `height` in pixels; and what is wrong, or None."""

    format: str | None = None
    width: int | None = None
    height: int | None = None
    problem: str | None = None


def header(image: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """What the header of `image` says, and whether it is empty, of no known format, truncated or too large."""
    if not image:
        return Header(problem="empty")
    for name, signature, check in _FORMATS:
        if image.startswith(signature):
            try:
                width, height = check(image)
            except (_TruncatedError, struct.error, IndexError):
                return Header(name, problem="truncated")
            if width * height == 0:
                return Header(name, width, height, "no pixels")
            return Header(name, width, height, "too many pixels" if width * height > max_pixels else None)
    return Header(problem="no known image format")


def problem(image: bytes, max_pixels: int = MAX_PIXELS) -> str | None:
    """What is wrong with `image` (empty, of no known format, truncated, too large), or None."""
    return header(image, max_pixels).problem


class _TruncatedError(Exception):
    pass


def _png(image: bytes) -> tuple[int, int]:
    """Walks the chunks (PNG specification, section 5.3) to IEND."""
    width, height = struct.unpack_from(">II", image, 16)
    position = len(PNG)
    while True:
        length, kind = struct.unpack_from(">I4s", image, position)
        position += 12 + length
        if position > len(image):
            raise _TruncatedError
        if kind == b"IEND":
            return width, height


def _jpeg(image: bytes) -> tuple[int, int]:
    """Walks the segments (ITU T.81, annex B) to the scan, then looks for the end-of-image marker."""
    position, size = 2, (0, 0)
    while True:
        if image[position] != 0xFF:
            raise _TruncatedError
        marker = image[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in _SOF:
            height, width = struct.unpack_from(">HH", image, position + 5)
            size = width, height
        if marker == 0xDA:
            if image.rfind(b"\xff\xd9", position) < 0:
                raise _TruncatedError
            return size
        position += 2 + struct.unpack_from(">H", image, position + 2)[0]


def _gif(image: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", image, 6)
    if image.rstrip(b"\0")[-1:] != b";":
        raise _TruncatedError
    return width, height


def _riff(image: bytes) -> tuple[int, int]:
    """WebP (RFC 9649): the RIFF length, then the size from the first chunk."""
    length, form, chunk = struct.unpack_from("<I4s4s", image, 4)
    if form != b"WEBP" or length + 8 > len(image):
        raise _TruncatedError
    if chunk == b"VP8X":
        width, height = (int.from_bytes(image[at : at + 3], "little") + 1 for at in (24, 27))
        return width, height
    if chunk == b"VP8L":
        bits = struct.unpack_from("<I", image, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", image, 26)
    return width & 0x3FFF, height & 0x3FFF


def _bmp(image: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", image, 2)[0] > len(image):
        raise _TruncatedError
    width, height = struct.unpack_from("<ii", image, 18)
    return abs(width), abs(height)


_FORMATS = (
    ("png", PNG, _png),
    ("jpeg", b"\xff\xd8\xff", _jpeg),
    ("gif", b"GIF8", _gif),
    ("webp", b"RIFF", _riff),
    ("bmp", b"BM", _bmp),
)
