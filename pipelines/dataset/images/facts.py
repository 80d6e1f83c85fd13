"""Facts about images: what their headers say, and hashes of their bytes and of their look."""

from hashlib import blake2b

import cv2
import numpy as np
from pyspark.sql.types import DataType, IntegerType, LongType, StringType

from headrace.dataset.images.check import Header
from headrace.dataset.images.derive import Pixels, grayscale

# The column of each fact.
FACTS: dict[str, DataType] = {
    "format": StringType(),
    "width": IntegerType(),
    "height": IntegerType(),
    "content_hash": StringType(),
    "perceptual_hash": LongType(),
}
_WIDTH, _HEIGHT = 9, 8


def content_hash(image: bytes) -> str:
    """128 bits of BLAKE2b of the encoded image (RFC 7693), in hex."""
    return blake2b(image, digest_size=16).hexdigest()


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits, as a signed integer, that change little when an image is scaled, compressed or brightened.

    The difference hash: of the gray image shrunk to 9×8, whether each pixel is darker than its right neighbour.
    """
    small = cv2.resize(grayscale(pixels), (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
    bits = small[:, :-1] < small[:, 1:]
    return int(np.packbits(bits).view(">i8")[0])


def fact(name: str, image: bytes | None, header: Header, pixels: Pixels | None) -> object:
    """The value of the column `name` for one image; None where there is none."""
    if image is None:
        return None
    if name == "content_hash":
        return content_hash(image)
    if name == "perceptual_hash":
        return None if pixels is None else perceptual_hash(pixels)
    return getattr(header, name)
