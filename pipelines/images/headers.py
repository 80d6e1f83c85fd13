"""What an image file says of itself: its format, its size in pixels, and whether its end is there. Nothing is decoded.

`read_header` knows PNG, JPEG, GIF, WebP and BMP; `formats` has the functions for each. A dataset build checks every
image with it, and the loader asks it before it decodes. udfs/java/headrace/Headers.java has the same rules for
functions that run in the JVM; a test checks that both give the same answers. A build refuses other formats (TIFF,
AVIF, …), because it could not tell whether their end is there. The loader takes them from tables that others wrote:
Pillow reads them.

Sizes are those of the pixels as they are stored. An EXIF orientation would be read here; today nothing applies it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.images.formats import ENDS, SIGNATURES, SIZES, BadImage, png_chunks
from headrace.images.pillow import opened

MAX_PIXELS = 1 << 28
"""pixels of the largest image that is decoded: 16384 × 16384, the limit of libavif too

Cameras take photographs of 100 to 200 million pixels. A file of a few kilobytes whose header claims more than its maker
ever had costs about twice its pixels in each thread that decodes: 1.6 GB in RGB, 4.3 GB for 16 bits with alpha.
"""
MAX_SIDE = 1_000_000
"""pixels of the longest side that is decoded: libpng's limit; OpenCV's is 2²⁰"""
MAX_JPEG_SIDE = 65_500
"""the same for JPEG: libjpeg's limit"""

_INT_MAX = (1 << 31) - 1

Encoded = bytes | np.ndarray
"""an image file in memory; as an array, uint8 and contiguous"""


@dataclass(frozen=True)
class Header:
    """What is known of an image file without decoding it."""

    format: str | None = None
    """png, jpeg, gif, webp or bmp; None: none of these"""
    width: int | None = None
    """in pixels, 1 to 2³¹ − 1; None: the header does not say, as `height`"""
    height: int | None = None
    problem: str | None = None
    """what is wrong with the file, in the words of `BadImage`; None: nothing that shows without decoding"""


def read_header(image: Encoded, max_pixels: int | None = None) -> Header:
    """The header of `image`, and what is wrong with the file. `max_pixels` lowers the limit, `MAX_PIXELS`.

    Format and size are given wherever the header has them, also for a file that is truncated or too large.
    """
    data = _view(image)
    name = format_of(data)
    if name is None:
        return Header(problem="unknown format" if len(data) else "empty")
    try:
        width, height = _size(name, data)
    except BadImage as error:
        return Header(name, problem=str(error))
    try:
        check_size(name, width, height, max_pixels)
        _complete(ENDS[name], data)
    except BadImage as error:
        return Header(name, width, height, str(error))
    return Header(name, width, height)


def dimensions(image: Encoded) -> tuple[int, int]:
    """Height and width of an image in any format that we decode, from its header.

    Raises BadImage where the header is damaged or the size is beyond the limits. The file's end is not looked for.
    """
    data = _view(image)
    if not len(data):
        raise BadImage("empty")
    name = format_of(data)
    width, height = _size(name, data)
    check_size(name, width, height)
    return height, width


def format_of(image: Encoded | memoryview) -> str | None:
    """The format that the first bytes claim: png, jpeg, gif, webp or bmp; None for any other."""
    data = _view(image)
    if data[:4] == b"RIFF":
        return "webp" if data[8:12] == b"WEBP" else None
    return next((name for signature, name in SIGNATURES if data[: len(signature)] == signature), None)


def media_type(image: Encoded) -> str | None:
    """The media type (RFC 6838) that the first bytes claim, as image/png; None where they claim no image we know."""
    name = format_of(image)
    return None if name is None else f"image/{name}"


def has_transparency(image: Encoded) -> bool:
    """Whether a PNG whose header is whole has an alpha channel, or a tRNS chunk (which stands before the pixels)."""
    data = _view(image)
    if data[25] in (4, 6):  # gray with alpha, RGB with alpha
        return True
    for kind, _ in png_chunks(data):
        if kind in (b"tRNS", b"IDAT"):
            return kind == b"tRNS"
    return False


def transparent_gray(image: Encoded) -> int | None:
    """The value, in the file's own bits, that a gray PNG calls transparent (its tRNS chunk); None if there is none."""
    data = _view(image)
    if data[25] != 0:
        return None
    for kind, content in png_chunks(data):
        if kind == b"IDAT":
            return None
        if kind == b"tRNS" and len(content) >= 2:
            return struct.unpack_from(">H", content)[0] & ((1 << data[24]) - 1)
    return None


def _view(image: Encoded | memoryview) -> memoryview:
    return image.data if isinstance(image, np.ndarray) else memoryview(image)


def _size(name: str | None, data: memoryview) -> tuple[int, int]:
    """Width and height, each 1 to 2³¹ − 1. Raises BadImage."""
    try:
        width, height = opened(data).size if name is None else SIZES[name](data)
    except (struct.error, IndexError):
        raise BadImage("truncated") from None
    if min(width, height) < 1:
        raise BadImage("no pixels")
    if max(width, height) > _INT_MAX:
        raise BadImage("too large")
    return width, height


def check_size(name: str | None, width: int, height: int, max_pixels: int | None = None) -> None:
    """Raise BadImage for an image of format `name` that is beyond the limits."""
    max_side = MAX_JPEG_SIDE if name == "jpeg" else MAX_SIDE
    if max(width, height) > max_side or width * height > min(MAX_PIXELS, max_pixels or MAX_PIXELS):
        raise BadImage("too large")


def _complete(read_to_end: Callable[[memoryview], None], data: memoryview) -> None:
    try:
        read_to_end(data)
    except (struct.error, IndexError):
        raise BadImage("truncated") from None
