"""Small copies of a dataset's images, so that a page of them stays a few megabytes."""

import cv2
import numpy as np

from pipelines.evaluation.pictures import data_uri, media_type
from pipelines.loading.decode import BadImage, decode

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
