"""Pictures inside a page: bytes as data URIs, so that a report is one file."""

import base64

import cv2
import numpy as np

from headrace.loading.shard.decode import BadImage, decode

SIDE = 256
AS_IT_IS_BYTES = 24 << 10
JPEG_QUALITY = 88


def thumbnail(data: bytes) -> str | None:
    """`data` as a data URI: as it is where it is small, else shrunk to 256 pixels; None where it is no image."""
    if len(data) <= AS_IT_IS_BYTES and media_type(data) is not None:
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


SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


def media_type(data: bytes) -> str | None:
    """The media type that the first bytes of `data` claim, or None where they claim no image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in SIGNATURES.items() if data.startswith(signature)), None)


def data_uri(data: bytes) -> str | None:
    """`data` as a data URI, or None where it is no image."""
    kind = media_type(data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if kind else None
