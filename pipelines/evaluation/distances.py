"""Distances between two sets of images by their features: FID and KID. Features are [N, D], one row per image."""

import torch
from torch import Tensor


def frechet_distance(first_ND: Tensor, second_ND: Tensor) -> float:
    """FID (Heusel et al. 2017, equation 6): Fréchet distance between normal distributions with the features' moments.

    ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2·(C₁C₂)^½), with covariances over N − 1. It is biased upwards by about 1/N, so compare
    only equal numbers of images. Raises ValueError for fewer than two images in a set.
    """
    mean_1, covariance_1 = _moments(first_ND)
    mean_2, covariance_2 = _moments(second_ND)
    # (C₁C₂)^½ has the eigenvalues of (C₁^½·C₂·C₁^½)^½, which is symmetric.
    values, vectors = torch.linalg.eigh(covariance_1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = root @ covariance_2 @ root
    trace = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + covariance_1.trace() + covariance_2.trace() - 2 * trace
    return max(0.0, float(distance))


def _moments(features_ND: Tensor) -> tuple[Tensor, Tensor]:
    if len(features_ND) < 2:
        raise ValueError(f"features: found {len(features_ND)} images, expected at least 2")
    features = features_ND.double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], features.shape[1])


def kernel_distance(first_ND: Tensor, second_ND: Tensor) -> float:
    """KID (Bińkowski et al. 2018, section 4): the unbiased squared MMD under the kernel (x·y/D + 1)³.

    The number of images affects only its variance, not its mean. It can be below 0. Raises ValueError for fewer than
    two images in a set.
    """
    n, m = len(first_ND), len(second_ND)
    if min(n, m) < 2:
        raise ValueError(f"features: found {min(n, m)} images, expected at least 2")
    first, second = first_ND.double(), second_ND.double()
    within_1 = _kernel_sum(first, first) - _kernel(first, first).sum()
    within_2 = _kernel_sum(second, second) - _kernel(second, second).sum()
    return float(within_1 / (n * (n - 1)) + within_2 / (m * (m - 1)) - 2 * _kernel_sum(first, second) / (n * m))


ROWS_AT_ONCE = 1024


def _kernel_sum(first: Tensor, second: Tensor) -> Tensor:
    """The sum of the kernel over all pairs, in bounded memory."""
    parts = [(part @ second.T / first.shape[1] + 1).pow(3).sum() for part in first.split(ROWS_AT_ONCE)]
    return torch.stack(parts).sum()


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    """The kernel of each row of `first` with the same row of `second`: [N]."""
    return ((first * second).sum(1) / first.shape[1] + 1).pow(3)
