"""What Pillow reads: formats that `formats` does not know, GIF, and JPEGs with stray bytes."""

from __future__ import annotations

import struct
from io import BytesIO

import cv2
import numpy as np
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.SunImagePlugin import SunImageFile
from PIL.TiffImagePlugin import TiffImageFile

from headrace.images.formats import BadImage

_READERS = (
    GifImageFile,
    JpegImageFile,
    TiffImageFile,
    PpmImageFile,
    AvifImageFile,
    Jpeg2KImageFile,
    SunImageFile,
)
_ERRORS = (OSError, ValueError, SyntaxError, TypeError, IndexError, RuntimeError, EOFError, struct.error)
"""what Pillow raises for damaged files"""
_BAND = 1 << 18
"""pixels that are converted at a time, so that a copy of the whole canvas is never made"""
_WITHOUT_WHITE = ("I", "F", "LAB", "HSV")
"""modes that do not say which value is white, or that Pillow does not turn into RGB"""


def opened(data: memoryview) -> ImageFile:
    """An image whose size is read. `Image.open` would apply a limit of its own, lower than ours. Raises BadImage."""
    start = bytes(data[:16])
    for reader in _READERS:
        accepts = Image.OPEN[reader.format][1]
        if accepts is not None and accepts(start) is True:
            try:
                return reader(BytesIO(data), "")
            except Image.DecompressionBombError as error:
                raise BadImage("too large") from error
            except _ERRORS as error:
                raise BadImage("corrupt") from error
    raise BadImage("unknown format")


def pixels_by_pillow(data: np.ndarray) -> np.ndarray:
    """The pixels of the first frame: gray, in 8 or 16 bits, or BGR or BGRA in 8 bits. Raises BadImage."""
    with opened(data.data) as image:
        try:
            image.load()
        except _ERRORS as error:
            raise BadImage("corrupt") from error
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
            return np.asarray(image).astype(np.uint16)
        if image.mode in _WITHOUT_WHITE:
            raise BadImage("unknown format")
        if image.has_transparency_data:
            return _converted(image, "RGBA", cv2.COLOR_RGBA2BGRA)
        if image.mode in ("1", "L"):
            return _converted(image, "L")
        return _converted(image, "RGB", cv2.COLOR_RGB2BGR)


def _converted(image: Image.Image, mode: str, swap: int | None = None) -> np.ndarray:
    """The pixels in 8 bits, [H, W] or [H, W, C], in `mode` and then in the order of OpenCV's conversion `swap`."""
    width, height = image.size
    pixels = np.empty((height, width) if swap is None else (height, width, len(mode)), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = np.asarray(image.crop((0, top, width, min(top + rows, height))).convert(mode))
        pixels[top : top + rows] = band if swap is None else cv2.cvtColor(band, swap)
    return pixels
