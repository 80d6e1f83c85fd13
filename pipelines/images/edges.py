"""Canny edges with one pair of thresholds: conditions of datasets and measures of drawn images have the same edges."""

import cv2
import numpy as np

CANNY_LOW, CANNY_HIGH = 100, 200
"""thresholds of the gradient: an edge starts above the higher and goes on above the lower"""


def canny(gray_HW: np.ndarray) -> np.ndarray:
    """The edges of a uint8 image (Canny 1986): uint8 [H, W], 255 on an edge, else 0."""
    return cv2.Canny(np.ascontiguousarray(gray_HW), CANNY_LOW, CANNY_HIGH)
