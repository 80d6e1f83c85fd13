"""FID and KID against closed forms, SciPy and torchmetrics."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from headrace.evaluation import distances
from headrace.evaluation.distances import frechet_distance, kernel_distance


class Identity(nn.Module):
    """Features that are the image's own pixels, for torchmetrics."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).double()


def normal(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(count: int, seed: int) -> Tensor:
    """Normal features whose covariance does not commute with that of any other seed."""
    return normal(count, 6, seed) @ normal(6, 6, seed + 100) + seed


def test_normal_distributions_have_their_closed_form() -> None:
    """‖m‖² + D·(1 − s)² for N(0, 1) and N(m, s²)."""
    first, second = normal(40_000, 5, 0), 0.5 * normal(40_000, 5, 1) + 0.3
    assert frechet_distance(first, second) == pytest.approx(5 * 0.3**2 + 5 * 0.5**2, rel=0.02)


def test_fid_is_that_of_the_matrix_square_root() -> None:
    first, second = correlated(60, 0), correlated(50, 1)
    c_1, c_2 = np.cov(first.numpy().T), np.cov(second.numpy().T)
    gap = (first.mean(0) - second.mean(0)).square().sum()
    expected = float(gap) + np.trace(c_1 + c_2 - 2 * scipy.linalg.sqrtm(c_1 @ c_2).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_fid_is_torchmetrics() -> None:
    images = [torch.randint(0, 256, (40, 1, 2, 3), generator=torch.Generator().manual_seed(k)).byte() for k in (0, 1)]
    peer = FrechetInceptionDistance(feature=Identity(), input_img_size=(1, 2, 3))
    peer.set_dtype(torch.float64)
    peer.update(images[0], real=True)
    peer.update(images[1], real=False)
    assert frechet_distance(*(each.flatten(1) for each in images)) == pytest.approx(float(peer.compute()), rel=1e-6)


def test_kid_is_torchmetrics() -> None:
    images = [torch.randint(0, 256, (30, 1, 2, 3), generator=torch.Generator().manual_seed(k)).byte() for k in (0, 1)]
    peer = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=30)
    peer.update(images[0], real=True)
    peer.update(images[1], real=False)
    mean, _ = peer.compute()
    assert kernel_distance(*(each.flatten(1) for each in images)) == pytest.approx(float(mean), rel=1e-6)


def test_equal_sets_are_at_distance_zero_even_with_few_images() -> None:
    few = normal(4, 10, 0)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_kid_is_unbiased_by_the_number_of_images() -> None:
    """For sets of the same distribution, KID is 0 on average and below 0 half of the time. FID is far above 0."""
    found = [kernel_distance(normal(20, 4, seed), normal(20, 4, seed + 1000)) for seed in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)
    assert 0.3 < np.mean(np.array(found) < 0) < 0.9
    assert frechet_distance(normal(20, 4, 0), normal(20, 4, 1000)) > 0.1


def test_memory_is_bounded_by_blocks_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = correlated(50, 0), correlated(40, 1)
    whole = kernel_distance(first, second)
    monkeypatch.setattr(distances, "ROWS_AT_ONCE", 7)
    assert kernel_distance(first, second) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_image_is_no_set(distance: object) -> None:
    with pytest.raises(ValueError, match="found 1 images, expected at least 2"):
        distance(normal(1, 3, 0), normal(9, 3, 1))  # type: ignore[operator]
