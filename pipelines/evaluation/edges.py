"""How well drawn images follow the edges that their conditions ask for."""

import cv2
import numpy as np
import torch
from torch import Tensor

from headrace.images.edges import canny

EDGE_FROM = 128
"""grey level from which a pixel of a condition counts as an edge"""


def edge_map(image_CHW: Tensor) -> np.ndarray:
    """Canny edges of a uint8 image, grey or RGB: bool [H, W]."""
    pixels = image_CHW.permute(1, 2, 0).contiguous().numpy()
    gray = pixels[:, :, 0] if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return canny(gray) > 0


def edge_agreement(conditions_N1HW: Tensor, drawn_NCHW: Tensor, tolerance: int = 0) -> Tensor:
    """F1 of the edges of each drawn image against those of its condition: float64 [N].

    Both are uint8. Precision is the fraction of the drawn image's edge pixels that lie within `tolerance` pixels (in
    rows and columns) of one in the condition. Recall is the fraction of the condition's that lie that close to a drawn
    one. If neither image has an edge, F1 is 1. Raises ValueError if a condition and its image differ in size.
    """
    if conditions_N1HW.shape[-2:] != drawn_NCHW.shape[-2:] or len(conditions_N1HW) != len(drawn_NCHW):
        raise ValueError(
            f"conditions: found {list(conditions_N1HW.shape)}, expected one of the size of each of the images "
            f"{list(drawn_NCHW.shape)}"
        )
    pairs = zip(conditions_N1HW[:, 0].numpy() >= EDGE_FROM, drawn_NCHW, strict=True)
    return torch.tensor([_f1(wanted, edge_map(image), tolerance) for wanted, image in pairs], dtype=torch.float64)


def _f1(wanted_HW: np.ndarray, drawn_HW: np.ndarray, tolerance: int) -> float:
    if not wanted_HW.any() and not drawn_HW.any():
        return 1.0
    if not wanted_HW.any() or not drawn_HW.any():
        return 0.0
    window = np.ones((2 * tolerance + 1, 2 * tolerance + 1), np.uint8)
    near_wanted, near_drawn = (cv2.dilate(edges.astype(np.uint8), window) > 0 for edges in (wanted_HW, drawn_HW))
    precision = (drawn_HW & near_wanted).sum() / drawn_HW.sum()
    recall = (wanted_HW & near_drawn).sum() / wanted_HW.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
