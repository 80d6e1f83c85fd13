"""Modes of images whose channels are images of their own: stacked MNIST's 1,000 (Lin et al. 2018, section 4.2)."""

from typing import NamedTuple

import torch
from torch import Tensor


class Modes(NamedTuple):
    """How many of the possible combinations of labels were drawn, and how evenly."""

    possible: int
    drawn: int
    kl: float
    """KL divergence, in nats, of the drawn combinations from the uniform distribution"""


def modes(labels_NC: Tensor, classes: int) -> Modes:
    """The modes among drawn images, whose channels a classifier gave `labels` in 0 … classes − 1: int64 [N, C]."""
    channels = labels_NC.shape[1]
    powers = classes ** torch.arange(channels)
    counts = torch.bincount((labels_NC * powers).sum(1), minlength=classes**channels).double()
    share = counts / counts.sum()
    # 0·log 0 is 0: xlogy's convention.
    kl = float(torch.xlogy(share, share * len(counts)).sum())
    return Modes(len(counts), int((counts > 0).sum()), kl)
