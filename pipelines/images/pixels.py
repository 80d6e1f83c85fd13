"""From an image file to its pixels: 8 bits, over white, gray or RGB.

simplejpeg decodes JPEG, OpenCV PNG, WebP and BMP, Pillow the rest; all of them release the GIL. What works on pixels
after that takes them a band at a time, so that an image never needs much more memory than its pixels.

Orientation tags are not applied. To apply them, rotate the pixels in `decode` and `decode_as_stored`, and swap the
sides in `headers.dimensions`: nothing else asks for either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import simplejpeg

from headrace.images.formats import BadImage, decodes_in_one_scan
from headrace.images.headers import (
    check_size,
    dimensions,
    format_of,
    has_transparency,
    read_header,
    transparent_gray,
)
from headrace.images.pillow import pixels_by_pillow

Mode = Literal["rgb", "gray"]
CHANNELS: dict[str, int] = {"rgb": 3, "gray": 1}
Pixels = np.ndarray
"""uint8 [H, W], [H, W, 3] or [H, W, 4]; BGR and BGRA, as OpenCV has them, unless it says RGB"""
Scaled = Callable[[int, int], tuple[int, int]]
"""the height and width to scale to, from those of the image"""

_PNG_BITS = 24
"""where a PNG's header says how many bits a sample has"""
_BAND = 1 << 18
"""pixels that are composed or converted at a time"""
_STRAY_BYTES = "extraneous bytes before marker"
_NO_MEMORY = "Insufficient memory"
_KEPT_SCRATCH = 1 << 26
"""bytes that a thread keeps for the next JPEG it decodes; a larger one takes its own memory and gives it back"""
_thread = threading.local()


def decode(data: np.ndarray, mode: Mode, scaled: Scaled | None = None) -> Pixels:
    """Decode an image, compose it over white where it is transparent, and scale it by area.

    `data` holds the encoded bytes, uint8. Returns [H, W, 3] (RGB) or [H, W] (gray), which the thread's next call may
    overwrite. Raises BadImage.
    """
    name = format_of(data)
    if name == "jpeg":
        size, pixels = _jpeg(data, mode, scaled)
    else:
        _check(data, name)
        pixels = _png(data, mode) if name == "png" else _opaque(_as_stored(data, name), mode)
        size = scaled(*pixels.shape[:2]) if scaled else pixels.shape[:2]
    if pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    return pixels


def decode_as_stored(image: bytes, max_pixels: int | None = None) -> Pixels:
    """The pixels of an image in the channels that it has, in 8 bits: gray, BGR or BGRA.

    Takes the five formats that `read_header` knows, of up to `max_pixels` (None: `MAX_PIXELS`). Raises BadImage.
    """
    header = read_header(image, max_pixels)
    if header.problem is not None:
        raise BadImage(header.problem)
    return eight_bits(_as_stored(np.frombuffer(image, np.uint8), header.format))


def _as_stored(data: np.ndarray, name: str | None) -> np.ndarray:
    """The pixels of an image of format `name` in the channels that it has: [H, W], BGR or BGRA, in 8 or 16 bits."""
    if name == "jpeg":
        return _jpeg_as_stored(data)
    if name == "png":
        return _png_as_stored(data)
    if name == "bmp":
        pixels = _imdecode(data, cv2.IMREAD_UNCHANGED)
        # OpenCV makes coloured bitmaps of OS/2 gray.
        return _imdecode(data, cv2.IMREAD_COLOR) if pixels.ndim == 2 else pixels
    return _imdecode(data, cv2.IMREAD_UNCHANGED) if name == "webp" else pixels_by_pillow(data)


def eight_bits(pixels: np.ndarray) -> Pixels:
    """uint16 as uint8: v / 257, rounded, so that 65535 becomes 255; uint8 as it is."""
    return cv2.convertScaleAbs(pixels, alpha=1 / 257) if pixels.dtype == np.uint16 else pixels


def over_white(pixels: Pixels) -> Pixels:
    """The image without alpha, composed over white: c·a + 1·(1 − a), rounded to 8 bits. Returns [H, W] or [H, W, 3]."""
    return _in_bands(pixels, 3, _composed) if _has_alpha(pixels) else pixels


def grayscale(pixels: Pixels) -> Pixels:
    """Luma [H, W] of the image composed over white (ITU-R BT.601)."""
    return pixels if pixels.ndim == 2 else _in_bands(pixels, 1, _luma)


def _has_alpha(pixels: np.ndarray) -> bool:
    return pixels.ndim == 3 and pixels.shape[2] == 4


def _in_bands(pixels: np.ndarray, channels: int, function: Callable[[np.ndarray], Pixels]) -> Pixels:
    """`function` of all rows, some at a time: [H, W] for one of `channels`, else [H, W, channels]."""
    height, width = pixels.shape[:2]
    rows = max(1, _BAND // width)
    if rows >= height:
        return function(pixels)
    made = np.empty((height, width, channels) if channels > 1 else (height, width), np.uint8)
    for top in range(0, height, rows):
        made[top : top + rows] = function(pixels[top : top + rows])
    return made


def _composed(pixels: Pixels) -> Pixels:
    """BGR over white, from BGRA."""
    alpha = cv2.merge([pixels[:, :, 3]] * 3)
    colours = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    return cv2.add(cv2.multiply(colours, alpha, scale=1 / 255), cv2.bitwise_not(alpha))


def _luma(pixels: Pixels) -> Pixels:
    """Gray over white, from BGR or BGRA."""
    return cv2.cvtColor(_composed(pixels) if _has_alpha(pixels) else pixels, cv2.COLOR_BGR2GRAY)


def _rgb(pixels: Pixels) -> Pixels:
    """RGB over white, from gray, BGR or BGRA."""
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(_composed(pixels) if _has_alpha(pixels) else pixels, cv2.COLOR_BGR2RGB)


def _opaque(pixels: np.ndarray, mode: Mode) -> Pixels:
    """Gray or RGB in 8 bits, over white, from pixels as they are stored."""
    convert = grayscale if mode == "gray" else _rgb
    return _in_bands(pixels, CHANNELS[mode], lambda band: convert(eight_bits(band)))


def _check(data: np.ndarray, name: str | None) -> None:
    """Raise BadImage for what is bad by its header. `name`: the format, if `read_header` knows it."""
    if name is None:
        dimensions(data)
        return
    problem = read_header(data).problem
    if problem is not None:
        raise BadImage(problem)


def _jpeg(data: np.ndarray, mode: Mode, scaled: Scaled | None) -> tuple[tuple[int, int], Pixels]:
    """The size to scale to, and pixels of that size or a little more."""
    try:
        height, width, colours = _jpeg_header(data)
        size = scaled(height, width) if scaled else (height, width)
        if colours == "CMYK":
            return size, _imdecode(data, _flags(mode))
        # The smallest of the decoder's reduced scales that is not below the wanted size: most of the work is saved.
        scratch = _scratch(height * width * CHANNELS[mode])
        pixels = _decode_jpeg(data, "GRAY" if mode == "gray" else "RGB", size, scratch)
    except _StrayBytes:
        pixels = _opaque(pixels_by_pillow(data), mode)
        return (scaled(*pixels.shape[:2]) if scaled else pixels.shape[:2]), pixels
    return size, pixels[:, :, 0] if mode == "gray" else pixels


def _jpeg_as_stored(data: np.ndarray) -> Pixels:
    try:
        colours = _jpeg_header(data)[2]
        if colours == "CMYK":
            return _imdecode(data, cv2.IMREAD_COLOR)
        pixels = _decode_jpeg(data, "GRAY" if colours == "Gray" else "BGR")
    except _StrayBytes:
        return pixels_by_pillow(data)
    return pixels[:, :, 0] if colours == "Gray" else pixels


class _StrayBytes(Exception):
    """A JPEG has bytes before a marker that belong to nothing: simplejpeg refuses it, other decoders pass over them."""


def _jpeg_header(data: np.ndarray) -> tuple[int, int, str]:
    """Height, width and colour space. Raises BadImage."""
    if not decodes_in_one_scan(data.data):  # it may have very many
        _check(data, "jpeg")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise _refused(data, error) from error
    check_size("jpeg", width, height)
    return height, width, colours


def _refused(data: np.ndarray, error: ValueError) -> Exception:
    """What to raise for a JPEG that simplejpeg refuses."""
    if _NO_MEMORY in str(error):
        return MemoryError(str(error))
    problem = read_header(data).problem
    return _StrayBytes() if problem is None and _STRAY_BYTES in str(error) else BadImage(problem or "corrupt")


def _decode_jpeg(
    data: np.ndarray, colours: str, size: tuple[int, int] = (0, 0), buffer: np.ndarray | None = None
) -> Pixels:
    try:
        return simplejpeg.decode_jpeg(data, colours, min_height=size[0], min_width=size[1], buffer=buffer)
    except ValueError as error:
        raise _refused(data, error) from error


def _scratch(count: int) -> np.ndarray:
    """Bytes of this thread that each call overwrites: fresh memory would cost as much as a tenth of decoding."""
    if count > _KEPT_SCRATCH:
        return np.empty(count, np.uint8)
    memory = getattr(_thread, "memory", None)
    if memory is None or memory.size < count:
        memory = _thread.memory = np.empty(count, np.uint8)
    return memory


def _png(data: np.ndarray, mode: Mode) -> Pixels:
    """Pixels from those as stored, except RGB in 8 bits without alpha, for which OpenCV needs no second pass.

    Otherwise OpenCV drops alpha and cuts 16 bits to 8, and makes gray by libpng, whose weights follow a gAMA chunk.
    """
    if mode == "gray" or data[_PNG_BITS] == 16 or has_transparency(data):
        return _opaque(_png_as_stored(data), mode)
    return _imdecode(data, _flags(mode))


def _png_as_stored(data: np.ndarray) -> np.ndarray:
    """[H, W], [H, W, 3] or [H, W, 4] in 8 or 16 bits. OpenCV ignores that a gray PNG calls one value transparent."""
    pixels = _imdecode(data, cv2.IMREAD_UNCHANGED)
    clear = transparent_gray(data)
    if clear is None or pixels.ndim != 2:
        return pixels
    bits, full = int(data[_PNG_BITS]), np.iinfo(pixels.dtype).max
    value = clear if bits >= 8 else clear * 255 // ((1 << bits) - 1)
    alpha = np.where(pixels == value, 0, full).astype(pixels.dtype)
    return cv2.merge([pixels, pixels, pixels, alpha])


def _flags(mode: Mode) -> int:
    return cv2.IMREAD_GRAYSCALE if mode == "gray" else cv2.IMREAD_COLOR_RGB


def _imdecode(data: np.ndarray, flags: int) -> np.ndarray:
    if flags != cv2.IMREAD_UNCHANGED:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(data, flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise _bad(data) from error
    if pixels is None:
        raise _bad(data)
    return pixels


def _bad(data: np.ndarray) -> BadImage:
    """Why an image of a format that we know cannot be decoded."""
    return BadImage((format_of(data) and read_header(data).problem) or "corrupt")
