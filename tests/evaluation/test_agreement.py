"""Edges, modes, reconstructions: how well drawn images match what was requested."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from headrace.evaluation.edges import edge_agreement, edge_map
from headrace.evaluation.manifolds import modes
from headrace.evaluation.reconstruction import codebook_use, similarity


def disc(centre: int, side: int = 28) -> np.ndarray:
    return cv2.circle(np.zeros((side, side), np.uint8), (centre, side // 2), 7, 255, -1)


def stacked(*images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(images))[:, None]


def test_an_image_agrees_with_its_own_edges_and_less_the_further_it_moves() -> None:
    request = stacked(*[cv2.Canny(disc(14), 100, 200)] * 4)
    exact = edge_agreement(request, stacked(disc(14), disc(15), disc(20), np.zeros((28, 28), np.uint8)))
    assert exact[0] == 1
    assert exact[0] > exact[1] > exact[2] > exact[3] == 0
    near = edge_agreement(request, stacked(disc(14), disc(15), disc(20), np.zeros((28, 28), np.uint8)), tolerance=1)
    assert near[1] == 1, "one pixel off is within the tolerance"
    assert near[2] < 1


def test_f1_is_that_of_its_definition() -> None:
    """Without tolerance F1 is 2·TP / (2·TP + FP + FN)."""
    request, image = cv2.Canny(disc(14), 100, 200), disc(17)
    drawn = cv2.Canny(image, 100, 200)
    both, either = ((request > 0) & (drawn > 0)).sum(), (request > 0).sum() + (drawn > 0).sum()
    assert float(edge_agreement(stacked(request), stacked(image))[0]) == pytest.approx(2 * both / either)


def test_nothing_asked_and_nothing_drawn_agree() -> None:
    nothing = np.zeros((28, 28), np.uint8)
    assert edge_agreement(stacked(nothing), stacked(nothing)).tolist() == [1.0]
    assert edge_agreement(stacked(nothing), stacked(disc(14))).tolist() == [0.0]


def test_colour_images_have_the_edges_of_their_gray() -> None:
    gray = torch.from_numpy(disc(14))[None]
    assert np.array_equal(edge_map(gray), edge_map(gray.expand(3, -1, -1)))


def test_a_condition_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found \[1, 1, 16, 16\], expected one of the size of each"):
        edge_agreement(torch.zeros(1, 1, 16, 16, dtype=torch.uint8), stacked(disc(14)))


def test_modes_are_combinations_and_even_ones_have_no_divergence() -> None:
    every = torch.cartesian_prod(*[torch.arange(10)] * 3)
    assert modes(every, 10) == (1000, 1000, pytest.approx(0, abs=1e-12))
    one = torch.full((50, 3), 7)
    assert modes(one, 10) == (1000, 1, pytest.approx(math.log(1000)))
    assert modes(every[:250], 10) == (1000, 250, pytest.approx(math.log(4)))


def test_similarity() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 1, 28, 28), generator=generator).byte()
    noisy = (images.float() + 20 * torch.randn(images.shape, generator=generator)).clamp(0, 255).byte()
    found = similarity(images, noisy)
    expected = [
        peak_signal_noise_ratio(a.float(), b.float(), data_range=255.0) for a, b in zip(noisy, images, strict=True)
    ]
    assert torch.allclose(found["psnr"], torch.stack(expected), rtol=1e-5)
    assert (found["ssim"] < 1).all()
    same = similarity(images, images)
    assert torch.allclose(same["ssim"], torch.ones(3))
    assert torch.allclose(same["psnr"], torch.full((3,), 54.15), atol=0.01)


def test_use_of_a_codebook() -> None:
    assert codebook_use(torch.arange(512), 512) == {"usage": 1.0, "perplexity": pytest.approx(512)}
    few = torch.tensor([[0, 0], [1, 1]])
    assert codebook_use(few, 8) == {"usage": 0.25, "perplexity": pytest.approx(2)}
