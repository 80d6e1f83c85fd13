"""Pictures inside a page: bytes as data URIs, so that a report is one file."""

import base64

import cv2
import numpy as np

from headrace.images.formats import BadImage
from headrace.images.headers import media_type
from headrace.images.pixels import decode

SIDE = 256
AS_IS_BYTES = 24 << 10
JPEG_QUALITY = 88


def thumbnail(data: bytes) -> str | None:
    """The image in `data` as a data URI, or None if it is not one.

    An image of up to 24 KiB is used as it is; a larger one is shrunk until its longer side is 256 pixels.
    """
    if len(data) <= AS_IS_BYTES and media_type(data) is not None:
        return data_uri(data)
    try:
        pixels_HWC = decode(np.frombuffer(data, np.uint8), "rgb", _fitted)
    except BadImage:
        return None
    jpeg = cv2.imencode(".jpg", pixels_HWC[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return data_uri(jpeg.tobytes())


def _fitted(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def data_uri(data: bytes) -> str | None:
    """`data` as a data URI, or None if it does not start like an image that browsers can show."""
    kind = media_type(data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if kind else None
