"""Hashes of an image: of its bytes, and of what it looks like."""

from hashlib import blake2b

import cv2
import numpy as np

from headrace.images.pixels import Pixels, grayscale

HASH_BITS = 64
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
