"""Encoded bytes → pixels. Each decoder lets go of the GIL: simplejpeg for JPEG, OpenCV for the rest."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

Mode = Literal["rgb", "gray"]
Scaled = Callable[[int, int], tuple[int, int]]
CHANNELS: dict[str, int] = {"rgb": 3, "gray": 1}

MAX_PIXELS = 1 << 26
"""pixels of the largest image that is decoded: 8192 × 8192"""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = 25
_PNG_WITH_ALPHA = {4, 6}
_thread = threading.local()


class BadImage(ValueError):
    """Bytes that are no image we can use; the message is the reason, a few words."""


def decode(data: np.ndarray, mode: Mode, scaled: Scaled | None = None) -> np.ndarray:
    """Decode an image, put it on white where it is transparent, and scale it by area.

    `data`: the encoded bytes, uint8. `scaled`: tells the height and width to scale to from those of the image.
    Returns H×W×3 (rgb) or H×W (gray), uint8, which the thread's next call may overwrite. Orientation tags are not
    applied. Raises BadImage: `empty`, `unknown format`, `truncated`, `corrupt`, `too large`.
    """
    if not data.size:
        raise BadImage("empty")
    head = data[:8].tobytes()
    if head.startswith(_JPEG):
        size, pixels = _jpeg(data, mode, scaled)
    else:
        pixels = _png(data, mode) if head == _PNG else _other(data, mode)
        size = scaled(*pixels.shape[:2]) if scaled else pixels.shape[:2]
    if pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    return pixels


def dimensions(data: np.ndarray) -> tuple[int, int]:
    """Height and width of an image, from its header. Raises BadImage."""
    head = data[:8].tobytes()
    if head.startswith(_JPEG):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise BadImage("corrupt") from error
        return height, width
    if head == _PNG and data.size >= 33:
        return int.from_bytes(data[20:24].tobytes(), "big"), int.from_bytes(data[16:20].tobytes(), "big")
    try:
        with Image.open(BytesIO(data.data)) as image:
            return image.height, image.width
    except UnidentifiedImageError as error:
        raise BadImage("unknown format") from error
    except Image.DecompressionBombError as error:
        raise BadImage("too large") from error
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise BadImage("corrupt") from error


def _jpeg(data: np.ndarray, mode: Mode, scaled: Scaled | None) -> tuple[tuple[int, int], np.ndarray]:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise BadImage("corrupt") from error
    _check(height, width)
    size = scaled(height, width) if scaled else (height, width)
    if colours == "CMYK":
        return size, _other(data, mode)
    colours = "GRAY" if mode == "gray" else "RGB"
    try:
        # The smallest of the decoder's reduced scales that is not below the wanted size: most of the work is saved.
        pixels = simplejpeg.decode_jpeg(
            data,
            colours,
            min_height=size[0],
            min_width=size[1],
            buffer=_scratch(height * width * CHANNELS[mode]),
        )
    except ValueError as error:
        raise BadImage("truncated" if "premature" in str(error).lower() else "corrupt") from error
    return size, pixels[:, :, 0] if mode == "gray" else pixels


def _scratch(count: int) -> np.ndarray:
    """Bytes of this thread that each call overwrites: fresh memory would cost as much as a tenth of decoding."""
    memory = getattr(_thread, "memory", None)
    if memory is None or memory.size < count:
        memory = _thread.memory = np.empty(count, np.uint8)
    return memory


def _png(data: np.ndarray, mode: Mode) -> np.ndarray:
    if data.size < 33:
        raise BadImage("truncated")
    width, height = (int.from_bytes(data[at : at + 4].tobytes(), "big") for at in (16, 20))
    _check(height, width)
    if b"IEND" not in data[-64:].tobytes():
        raise BadImage("truncated")
    if data[_COLOUR_TYPE] in _PNG_WITH_ALPHA or _has_transparency(data):
        return _on_white(_imdecode(data, cv2.IMREAD_UNCHANGED), mode)
    return _imdecode(data, cv2.IMREAD_GRAYSCALE if mode == "gray" else cv2.IMREAD_COLOR_RGB)


def _has_transparency(data: np.ndarray) -> bool:
    """Whether a PNG without an alpha channel has a tRNS chunk (it stands before the pixels)."""
    head = data[: 1 << 16].tobytes()
    return head.find(b"tRNS", 33, max(33, head.find(b"IDAT"))) >= 0


def _other(data: np.ndarray, mode: Mode) -> np.ndarray:
    _check(*dimensions(data))
    pixels = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return _on_white(pixels, mode)
    return _imdecode(data, cv2.IMREAD_GRAYSCALE if mode == "gray" else cv2.IMREAD_COLOR_RGB)


def _imdecode(data: np.ndarray, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(data, flags if flags == cv2.IMREAD_UNCHANGED else flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadImage("corrupt") from error
    if pixels is None:
        raise BadImage("unknown format" if data[:8].tobytes() != _PNG else "corrupt")
    return pixels


def _on_white(pixels: np.ndarray, mode: Mode) -> np.ndarray:
    """Compose BGRA (or what has no alpha after all) over white: c·a + 1·(1 − a), in 8 bits, rounded."""
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        alpha = cv2.merge([pixels[:, :, 3]] * 3)
        colours = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
        pixels = cv2.add(cv2.multiply(colours, alpha, scale=1 / 255), cv2.bitwise_not(alpha))
    elif pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if mode == "gray":
        return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)


def _check(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise BadImage("too large")
