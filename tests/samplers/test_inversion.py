"""Encoding images to noise and back, interpolation, and likelihood, against closed forms."""

import math

import pytest
import torch

from headrace import samplers
from tests.oracles.mixture import Mixture

PLANE = Mixture([[-1.0, 0.0], [1.0, 0.3], [0.2, 1.2]], [0.5, 0.4, 0.6], [0.3, 0.5, 0.2])


def round_trip_error(steps: int) -> float:
    sigmas = samplers.karras(0.02, 20.0, steps)
    x_ND = PLANE.sample(300, 0)
    latent = samplers.invert_ddim(PLANE.denoise, x_ND, sigmas)
    # The latents are distributed like noise at the highest level, and decode to the original images.
    assert abs(latent.std().item() / 20 - 1) < 0.15
    return float((samplers.sample_ddim(PLANE.denoise, latent, sigmas) - x_ND).square().mean().sqrt())


def test_inversion_returns_to_the_image_within_the_step_error() -> None:
    errors = [round_trip_error(steps) for steps in (50, 100, 200)]
    assert errors[2] < 0.015
    # DDIM is of order 1: twice the steps, half the error.
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_interpolation_keeps_the_length_of_noise_and_meets_its_ends() -> None:
    first, second = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    shares = torch.linspace(0, 1, 5)
    between = samplers.interpolate(first, second, shares)
    torch.testing.assert_close(between[0], first)
    torch.testing.assert_close(between[4], second)
    lengths = between.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.lerp(first.norm(), second.norm(), shares), rtol=0.01, atol=0)
    angles = torch.nn.functional.cosine_similarity(between[1:].flatten(1), between[:-1].flatten(1)).arccos()
    assert angles.max() - angles.min() < 0.02
    torch.testing.assert_close(samplers.interpolate(first, first, shares), first.expand(5, -1, -1, -1))


def test_likelihood_of_a_gaussian_is_exact() -> None:
    size, deviation, lowest = 8, 0.5, 0.01
    gaussian = Mixture([[0.0] * size], [deviation], [1.0])
    x_ND = gaussian.sample(50, 0)
    sigmas = torch.logspace(math.log10(50), math.log10(lowest), 200, dtype=torch.float64)
    found = samplers.log_likelihood(
        gaussian.denoise,
        x_ND,
        sigmas,
        generator=torch.Generator().manual_seed(0),
        prior_variance=deviation**2,
    )
    expected = gaussian.log_density(x_ND, lowest)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    bits = samplers.bits_per_dimension(found, size)
    exact = -expected / (size * math.log(2)) + math.log2(127.5)
    torch.testing.assert_close(bits, exact, rtol=0, atol=0.004)


def test_bits_per_dimension_of_uniform_noise_are_its_bits() -> None:
    # Density 1/2 on [−1, 1] in each of 10 dimensions; 256 values spaced 2/255 apart.
    assert samplers.bits_per_dimension(torch.tensor([-10 * math.log(2.0)]), 10).item() == pytest.approx(8, abs=0.01)


def test_likelihood_of_a_mixture_with_probes() -> None:
    x_ND = PLANE.sample(40, 0)
    sigmas = torch.logspace(math.log10(50), math.log10(0.05), 100, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    # In the plane, the divergence estimate depends on the random signs only through the mixed derivatives.
    found = samplers.log_likelihood(PLANE.denoise, x_ND, sigmas, generator=generator, probes=16, prior_variance=1.0)
    assert (found - PLANE.log_density(x_ND, 0.05)).abs().mean() < 0.1


def test_likelihood_needs_a_lowest_level() -> None:
    with pytest.raises(ValueError, match="found a last level of 0, expected a lowest level above 0"):
        samplers.log_likelihood(PLANE.denoise, PLANE.sample(2, 0), samplers.karras(0.01, 20.0, 10))


@pytest.mark.parametrize(
    "sigmas",
    [[], [1.0], [1.0, 2.0], [2.0, 2.0, 0.0], [2.0, 1.0, -1.0], [math.inf, 1.0], [math.nan, 1.0], [[2.0, 1.0]]],
)
@pytest.mark.parametrize("sampler", [samplers.sample_ddim, samplers.sample_heun, samplers.sample_unipc])
def test_levels_that_do_not_descend_are_refused(sampler: object, sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="sigmas: found"):
        sampler(PLANE.denoise, torch.zeros(1, 2), torch.tensor(sigmas))  # type: ignore[operator]


def test_eta_and_other_numbers_out_of_range_are_refused() -> None:
    x_ND, sigmas = torch.zeros(1, 2), samplers.karras(0.1, 1.0, 3)
    for bad in (
        lambda: samplers.sample_ddim(PLANE.denoise, x_ND, sigmas, eta=1.1),
        lambda: samplers.sample_dpmpp_2m_sde(PLANE.denoise, x_ND, sigmas, eta=-0.1),
        lambda: samplers.sample_heun(PLANE.denoise, x_ND, sigmas, churn=-1.0),
        lambda: samplers.sample_langevin(PLANE.denoise, x_ND, sigmas, rate=0.0),
        lambda: samplers.sample_predictor_corrector(PLANE.denoise, x_ND, sigmas, snr=0.0),
    ):
        with pytest.raises(ValueError, match=r"found .*, expected"):
            bad()
