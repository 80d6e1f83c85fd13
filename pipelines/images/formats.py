"""What the bytes of each format say: how the file begins, its size in pixels, and where it ends. Nothing is decoded.

For each format there is a function that reads the size (width, height), and one that reads on to the end. Both raise
BadImage, and struct.error or IndexError where the bytes end too early. udfs/java/headrace/Headers.java has the same
rules.

Bytes that no decoder needs are no problem: after the end, between the blocks of a GIF, before a marker of a JPEG.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SCANS = 100
"""scans of a JPEG: encoders write about 10, and a file of some kilobytes with thousands takes minutes to decode"""


class BadImage(ValueError):
    """Bytes that are not a usable image. The message is the reason, a few words:

    `empty`, `unknown format`, `truncated` (the end is missing), `corrupt`, `no pixels` (a side of 0), `too large`.
    """


def _png_size(data: memoryview) -> tuple[int, int]:
    """PNG specification, section 11.2.2: IHDR, of 13 bytes, comes first."""
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if (length, kind) != (13, b"IHDR"):
        raise BadImage("corrupt")
    return width, height


def png_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each chunk that is there as a whole (PNG specification, section 5.3), up to IEND."""
    at, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise BadImage("truncated")
        yield kind, data[at - 4 - length : at - 4]


_PNG_CHANNELS = {2: 3, 4: 2, 6: 4}  # by colour type; the others have one
_DEFLATE_RATIO = 1032
"""the most bytes that one byte of deflate's becomes: 258 in two bits (RFC 1951, section 3.2.5)"""


def _png_end(data: memoryview) -> None:
    """All chunks are there, and as many bytes of compressed pixels as the header's size must have at least."""
    packed = sum(len(content) for kind, content in png_chunks(data) if kind == b"IDAT")
    width, height = _png_size(data)
    bits, colour_type = data[24], data[25]
    if width * height * bits * _PNG_CHANNELS.get(colour_type, 1) > 8 * _DEFLATE_RATIO * packed:
        raise BadImage("truncated")


_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA})  # those that decoders know
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# DHT, DAC, SOS, DQT, DNL, DRI, COM, APPn
_WITH_LENGTH = _START_OF_FRAME | {0xC4, 0xCC, _START_OF_SCAN, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)}
# Passes over stuffed zeros, fill bytes, and the markers that stand alone (TEM, RST0 to RST7).
_MARKER = re.compile(rb"\xff[^\xff\x00\x01\xd0-\xd7]")


def _jpeg_segments(data: memoryview) -> Iterator[tuple[int, int]]:
    """Marker and position of each segment, up to the first scan (ITU T.81, section B.1.1)."""
    at, marker = 2, 0
    while marker != _START_OF_SCAN:
        found = _MARKER.search(data, at)
        if found is None:
            raise BadImage("truncated")
        at = found.start()
        marker = data[at + 1]
        length = struct.unpack_from(">H", data, at + 2)[0]
        if length < 2 or marker not in _WITH_LENGTH:
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
    """One frame header, scans, and an end-of-image marker somewhere after them: cameras append to their files."""
    frames = scan = 0
    for marker, at in _jpeg_segments(data):
        frames += marker in _START_OF_FRAME
        scan = at
    scans, ends = _jpeg_scans(data, scan)
    if frames > 1 or scans > MAX_SCANS:
        raise BadImage("corrupt")
    if not ends and bytes(data[scan:]).rfind(b"\xff\xd9") < 0:
        raise BadImage("truncated")


def decodes_in_one_scan(data: memoryview) -> bool:
    """Whether a JPEG is sequential and its first scan has all components, so that decoders stop after it.

    True for damaged headers as well, which no decoder takes.
    """
    components = progressive = scan = 0
    try:
        for marker, at in _jpeg_segments(data):
            if marker in _START_OF_FRAME:
                components, progressive = data[at + 9], marker in _PROGRESSIVE
            scan = at
        return not progressive and data[scan + 4] == components
    except (BadImage, struct.error, IndexError):
        return True


def _jpeg_scans(data: memoryview, at: int) -> tuple[int, bool]:
    """The number of scans from the first one on, and whether the end of the image comes after them."""
    scans = 0
    while (found := _MARKER.search(data, at)) is not None:
        at = found.start()
        marker = data[at + 1]
        if marker == _END_OF_IMAGE:
            return scans, True
        scans += marker == _START_OF_SCAN
        at += 2
        if marker in _WITH_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    return scans, False


_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21
_GIF_BLOCK = re.compile(rb"[,!;]")


def _gif_blocks(data: memoryview) -> Iterator[tuple[int, int]]:
    """Kind and position of each block up to the trailer (GIF89a specification, sections 15 to 27)."""
    at = 13 + _gif_colours(data[10])
    while (found := _GIF_BLOCK.search(data, at)) is not None:
        at = found.start()
        kind = data[at]
        if kind == _GIF_EXTENSION:  # its label
            end = at + 2
        elif kind == _GIF_IMAGE:  # its descriptor, its colours, its code size
            end = at + 11 + _gif_colours(data[at + 9])
        else:
            return
        while data[end]:  # the sub-blocks
            end += 1 + data[end]
        yield kind, at
        at = end + 1
    raise BadImage("truncated")


def _gif_size(data: memoryview) -> tuple[int, int]:
    """The canvas, made larger where the first image reaches beyond it, as browsers and Pillow do."""
    width, height = struct.unpack_from("<HH", data, 6)
    for kind, at in _gif_blocks(data):
        if kind == _GIF_IMAGE:
            left, top, across, down = struct.unpack_from("<HHHH", data, at + 1)
            if not (across and down):
                raise BadImage("no pixels")
            return max(width, left + across), max(height, top + down)
    raise BadImage("corrupt")


def _gif_end(data: memoryview) -> None:
    for _ in _gif_blocks(data):
        pass


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
    """The image is inside the file, and so are all chunks of the extended kind (RFC 9649, section 2.3)."""
    at, end, found = 12, struct.unpack_from("<I", data, 4)[0] + 8, False
    if end > len(data):
        raise BadImage("truncated")
    while at + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, at)
        at += 8 + size
        if at > end:
            raise BadImage("corrupt")
        at += size & 1
        found = found or kind in (b"VP8 ", b"VP8L", b"ANMF")
        if data[12:16] != b"VP8X":
            break
    if not found:
        raise BadImage("corrupt")


_BMP_CORE_HEADER, _BMP_INFO_HEADER = 12, 40  # bytes of the header of OS/2 1.x, and of the shortest that Windows writes
_BMP_RAW, _BMP_COMPRESSED = (0, 3), (1, 2)  # BI_RGB and BI_BITFIELDS; BI_RLE8 and BI_RLE4


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
    """All rows are there, each of a multiple of four bytes; if they are compressed, the file is as long as it says."""
    needed, pixels, header = struct.unpack_from("<I4xII", data, 2)
    width, height = _bmp_size(data)
    bits = struct.unpack_from("<H", data, 24 if header == _BMP_CORE_HEADER else 28)[0]
    compression = 0 if header == _BMP_CORE_HEADER else struct.unpack_from("<I", data, 30)[0]
    if compression in _BMP_RAW:
        needed = pixels + (width * bits + 31) // 32 * 4 * height
    elif compression not in _BMP_COMPRESSED:
        raise BadImage("corrupt")
    if needed > len(data):
        raise BadImage("truncated")


SIGNATURES = (
    (PNG_SIGNATURE, "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
)
SIZES: dict[str, Callable[[memoryview], tuple[int, int]]] = {
    "png": _png_size,
    "jpeg": _jpeg_size,
    "gif": _gif_size,
    "webp": _webp_size,
    "bmp": _bmp_size,
}
ENDS: dict[str, Callable[[memoryview], None]] = {
    "png": _png_end,
    "jpeg": _jpeg_end,
    "gif": _gif_end,
    "webp": _webp_end,
    "bmp": _bmp_end,
}
