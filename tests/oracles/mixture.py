"""A Gaussian mixture with its exact denoiser, score, density and samples, as the oracle for every sampler."""

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


class Mixture:
    """Isotropic Gaussians: means [K, D], standard deviations [K], weights [K], all in float64."""

    def __init__(self, means: list[list[float]], deviations: list[float], weights: list[float]) -> None:
        self.means_KD = torch.tensor(means, dtype=torch.float64)
        self.deviations_K = torch.tensor(deviations, dtype=torch.float64)
        self.weights_K = torch.tensor(weights, dtype=torch.float64)

    def log_parts(self, x_ND: Tensor, sigma: Tensor | float) -> Tensor:
        """The log of weight · density of each component under noise σ: [N, K]."""
        variance_K = self.deviations_K**2 + sigma**2
        squares_NK = torch.cdist(x_ND, self.means_KD, compute_mode="donot_use_mm_for_euclid_dist").square()
        size = x_ND.shape[1]
        normaliser_K = self.weights_K.log() - size / 2 * (2 * math.pi * variance_K).log()
        return normaliser_K - squares_NK / (2 * variance_K)

    def log_density(self, x_ND: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        return self.log_parts(x_ND, sigma).logsumexp(1)

    def denoise(self, x_ND: Tensor, sigma: Tensor) -> Tensor:
        """E[x₀ | x, σ]: the components' posterior means, weighted by their posterior probabilities."""
        share_K = self.deviations_K**2 / (self.deviations_K**2 + sigma**2)
        posterior_NK = self.log_parts(x_ND, sigma).softmax(1)
        mean_NKD = self.means_KD + share_K[:, None] * (x_ND[:, None] - self.means_KD)
        return (posterior_NK[..., None] * mean_NKD).sum(1)

    def sample(self, count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        part_N = torch.multinomial(self.weights_K, count, replacement=True, generator=generator)
        noise_ND = torch.randn(count, self.means_KD.shape[1], generator=generator, dtype=torch.float64)
        return self.means_KD[part_N] + self.deviations_K[part_N, None] * noise_ND

    def shares(self, x_ND: Tensor) -> Tensor:
        """The fraction of points nearest to each mean: [K]."""
        nearest_N = torch.cdist(x_ND, self.means_KD).argmin(1)
        return torch.bincount(nearest_N, minlength=len(self.means_KD)) / len(x_ND)


def sliced_wasserstein(first_ND: Tensor, second_ND: Tensor, directions: int = 64) -> float:
    """Wasserstein-2 of two sets of equal size, as a root mean square over evenly spread directions in the plane."""
    angle = torch.arange(directions, dtype=torch.float64) * math.pi / directions
    axes = torch.stack([angle.cos(), angle.sin()])
    gap = (first_ND @ axes).sort(0).values - (second_ND @ axes).sort(0).values
    return float(gap.square().mean().sqrt())


def wasserstein(first_ND: Tensor, second_ND: Tensor) -> float:
    """Wasserstein-2 of two sets of equal size: the root of the mean squared distance under the best pairing."""
    costs_NN = torch.cdist(first_ND, second_ND, compute_mode="donot_use_mm_for_euclid_dist").square().numpy()
    return float(costs_NN[linear_sum_assignment(costs_NN)].mean() ** 0.5)
