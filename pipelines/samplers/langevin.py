"""Sampling by the score (D(x, σ) − x)/σ²: Langevin dynamics and the reverse variance-exploding SDE."""

from torch import Tensor

from headrace.samplers.denoise import Denoise, Generator, checked, noise_like, sampler


@sampler
def sample_langevin(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    updates: int = 100,
    rate: float = 0.1,
) -> Tensor:
    """Draw by annealed Langevin dynamics (Song & Ermon 2019, algorithm 1).

    Each level above 0 gets `updates` steps of size α = rate·σ² (the paper's ε is rate·σ_L²), rate in (0, 1]. If the
    last level is 0, the last state is denoised (Jolicoeur-Martineau et al. 2021, section 3.1). A list of one level and
    0 gives plain Langevin dynamics. The other arguments are those of `sample_ddim`.
    """
    if updates < 1 or not 0 < rate <= 1:
        raise ValueError(f"langevin: found {updates} updates at rate {rate}, expected at least 1, 0 < rate <= 1")
    levels = checked(sigmas)
    for sigma in levels[levels > 0]:
        for _ in range(updates):
            drift = (denoise(x, sigma) - x) * (rate / 2)
            x = x + drift + (sigma * rate**0.5).to(x.dtype) * noise_like(x, generator)
    return denoise(x, levels[-2]) if levels[-1] == 0 else x


@sampler
def sample_predictor_corrector(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    corrections: int = 1,
    snr: float = 0.16,
) -> Tensor:
    """Draw from the variance-exploding SDE: reverse diffusion, then Langevin (Song et al. 2021, algorithms 2 and 4).

    The corrector's step is 2·(snr·σ)²: the paper's, with both norms replaced by their expectations, so that a sample
    does not depend on its batch. The other arguments are those of `sample_ddim`.
    """
    if corrections < 0 or snr <= 0:
        raise ValueError(f"corrector: found {corrections} corrections at snr {snr}, expected 0 or more, snr > 0")
    for sigma, below in checked(sigmas).unfold(0, 2, 1):
        gone = sigma**2 - below**2
        x = x + (gone / sigma**2).to(x.dtype) * (denoise(x, sigma) - x)
        if below == 0:
            return x
        x = x + gone.sqrt().to(x.dtype) * noise_like(x, generator)
        for _ in range(corrections):
            drift = 2 * snr**2 * (denoise(x, below) - x)
            x = x + drift + (2 * snr * below).to(x.dtype) * noise_like(x, generator)
    return x
