"""What an image file says of itself: its format, its size in pixels, and whether its end is there. Nothing is decoded.

`read_header` knows PNG, JPEG, GIF, WebP and BMP. A dataset build checks every image with it, and the loader asks it
before it decodes. udfs/java/headrace/Headers.java has the same rules for functions that run in the JVM; a test checks
that both give the same answers. A build refuses other formats that OpenCV decodes (TIFF, AVIF, …), because it could not
tell whether their end is there. The loader takes them from tables that others wrote: Pillow tells it their size.

Sizes are those of the pixels as they are stored. An EXIF orientation would be read here; today nothing applies it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.SunImagePlugin import SunImageFile
from PIL.TiffImagePlugin import TiffImageFile

MAX_PIXELS = 1 << 28
"""pixels of the largest image that is decoded: 16384 × 16384, the limit of libavif too

Cameras take photographs of 100 to 200 million pixels. A file of a few kilobytes whose header claims more than its maker
ever had costs at most 2²⁸ × 3 bytes, 0.8 GB, in each thread that decodes (eight bytes a pixel for 16 bits with alpha).
"""
MAX_SIDE = 1_000_000
"""pixels of the longest side that is decoded: libpng's limit; OpenCV's is 2²⁰"""
MAX_JPEG_SIDE = 65_500
"""the same for JPEG: libjpeg's limit"""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INT_MAX = (1 << 31) - 1

Encoded = bytes | np.ndarray
"""an image file in memory; as an array, uint8 and contiguous"""


class BadImage(ValueError):
    """Bytes that are not a usable image. The message is the reason, a few words:

    `empty`, `unknown format`, `truncated` (the end is missing), `corrupt`, `no pixels` (a side of 0), `too large`.
    """


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
        _complete(_ENDS[name], data)
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
    return next((name for signature, name in _SIGNATURES if data[: len(signature)] == signature), None)


def media_type(image: Encoded) -> str | None:
    """The media type (RFC 6838) that the first bytes claim, as image/png; None where they claim no image we know."""
    name = format_of(image)
    return None if name is None else f"image/{name}"


def has_transparency(image: Encoded) -> bool:
    """Whether a PNG whose header is whole has an alpha channel, or a tRNS chunk (which stands before the pixels)."""
    data = _view(image)
    if data[25] in (4, 6):  # gray with alpha, RGB with alpha
        return True
    for kind, _ in _png_chunks(data):
        if kind in (b"tRNS", b"IDAT"):
            return kind == b"tRNS"
    return False


def transparent_gray(image: Encoded) -> int | None:
    """The value, in the file's own bits, that a gray PNG calls transparent (its tRNS chunk); None if there is none."""
    data = _view(image)
    if data[25] != 0:
        return None
    for kind, content in _png_chunks(data):
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
        width, height = _size_by_pillow(data) if name is None else _SIZES[name](data)
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


# For each format a function that reads the size (width, height), and one that reads on to the end. Both raise BadImage,
# and struct.error or IndexError where the bytes end too early.


def _png_size(data: memoryview) -> tuple[int, int]:
    """PNG specification, section 11.2.2: IHDR, of 13 bytes, comes first."""
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if (length, kind) != (13, b"IHDR"):
        raise BadImage("corrupt")
    return width, height


def _png_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each chunk that is there as a whole (PNG specification, section 5.3), up to IEND."""
    at, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise BadImage("truncated")
        yield kind, data[at - 4 - length : at - 4]


def _png_end(data: memoryview) -> None:
    for _ in _png_chunks(data):
        pass


_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # less DHT, JPG and DAC
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}  # RST0 to RST7, SOI, TEM


def _jpeg_segments(data: memoryview) -> Iterator[tuple[int, int]]:
    """Marker and position of each segment, up to the first scan (ITU T.81, section B.1.1)."""
    at, marker = 2, 0
    while marker != _START_OF_SCAN:
        if data[at] != 0xFF:
            raise BadImage("corrupt")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            length = struct.unpack_from(">H", data, at + 2)[0]
            if length < 2 or marker == _END_OF_IMAGE:
                raise BadImage("corrupt")
            yield marker, at
            at += 2 + length


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    """From the frame header (ITU T.81, section B.2.2)."""
    for marker, at in _jpeg_segments(data):
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
    raise BadImage("corrupt")


def _jpeg_end(data: memoryview) -> None:
    """One frame header, a scan, and an end-of-image marker somewhere after it: cameras append to their files."""
    frames = scan = 0
    for marker, at in _jpeg_segments(data):
        frames += marker in _START_OF_FRAME
        scan = at
    if frames > 1:
        raise BadImage("corrupt")
    if bytes(data[scan:]).rfind(b"\xff\xd9") < 0:
        raise BadImage("truncated")


def _gif_size(data: memoryview) -> tuple[int, int]:
    return struct.unpack_from("<HH", data, 6)


def _gif_end(data: memoryview) -> None:
    """Walks the blocks to the trailer (GIF89a specification, sections 15 to 27)."""
    at = 13 + _gif_colours(data[10])
    while data[at] != 0x3B:
        if data[at] == 0x21:  # an extension: its label
            at += 2
        elif data[at] == 0x2C:  # an image: its descriptor, its colours, its code size
            at += 11 + _gif_colours(data[at + 9])
        else:
            raise BadImage("corrupt")
        while data[at]:  # the sub-blocks
            at += 1 + data[at]
        at += 1


def _gif_colours(flags: int) -> int:
    """The bytes of a colour table."""
    return 6 << (flags & 7) if flags & 0x80 else 0


def _webp_size(data: memoryview) -> tuple[int, int]:
    """The three kinds of WebP: lossy, lossless, extended (RFC 9649, sections 2.5 to 2.7)."""
    kind = struct.unpack_from("4s", data, 12)[0]
    if kind == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", data, 23)
        if start == b"\x9d\x01\x2a":
            return width & 0x3FFF, height & 0x3FFF
    elif kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature == 0x2F:
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        size = struct.unpack_from("6s", data, 24)[0]
        return int.from_bytes(size[:3], "little") + 1, int.from_bytes(size[3:], "little") + 1
    raise BadImage("corrupt")


def _webp_end(data: memoryview) -> None:
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise BadImage("truncated")


_BMP_CORE_HEADER, _BMP_INFO_HEADER = 12, 40  # bytes of the header of OS/2 1.x, and of the shortest that Windows writes
_BMP_RAW = (0, 3)  # kinds of compression that compress nothing: BI_RGB, BI_BITFIELDS


def _bmp_size(data: memoryview) -> tuple[int, int]:
    """A negative height says that the top row comes first."""
    header = struct.unpack_from("<I", data, 14)[0]
    if header == _BMP_CORE_HEADER:
        return struct.unpack_from("<HH", data, 18)
    if header < _BMP_INFO_HEADER:
        raise BadImage("corrupt")
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _bmp_end(data: memoryview) -> None:
    """The file is as long as it says, and has all rows, each of a multiple of four bytes."""
    claimed, pixels, header = struct.unpack_from("<I4xII", data, 2)
    needed = claimed
    width, height = _bmp_size(data)
    bits = struct.unpack_from("<H", data, 24 if header == _BMP_CORE_HEADER else 28)[0]
    if header == _BMP_CORE_HEADER or struct.unpack_from("<I", data, 30)[0] in _BMP_RAW:
        needed = max(claimed, pixels + (width * bits + 31) // 32 * 4 * height)
    if needed > len(data):
        raise BadImage("truncated")


_SIGNATURES = (
    (PNG_SIGNATURE, "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
)
_SIZES: dict[str, Callable[[memoryview], tuple[int, int]]] = {
    "png": _png_size,
    "jpeg": _jpeg_size,
    "gif": _gif_size,
    "webp": _webp_size,
    "bmp": _bmp_size,
}
_ENDS: dict[str, Callable[[memoryview], None]] = {
    "png": _png_end,
    "jpeg": _jpeg_end,
    "gif": _gif_end,
    "webp": _webp_end,
    "bmp": _bmp_end,
}

_OTHER_FORMATS = (TiffImageFile, PpmImageFile, AvifImageFile, Jpeg2KImageFile, SunImageFile)


def _size_by_pillow(data: memoryview) -> tuple[int, int]:
    """Width and height in other formats. `Image.open` would apply a limit of its own, lower than ours."""
    start = bytes(data[:16])
    for reader in _OTHER_FORMATS:
        accepts = Image.OPEN[reader.format][1]
        if accepts is not None and accepts(start) is True:
            try:
                with reader(BytesIO(data), "") as image:
                    return image.size
            except (OSError, ValueError, SyntaxError, TypeError, IndexError, RuntimeError, struct.error) as error:
                raise BadImage("corrupt") from error
    raise BadImage("unknown format")
