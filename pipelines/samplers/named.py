"""Samplers and levels as a recipe names them."""

from collections.abc import Callable

from torch import Tensor

from pipelines.recipe.training import Sampling
from pipelines.samplers.ddim import sample_ddim, sample_ddpm
from pipelines.samplers.denoise import Denoise, Generator
from pipelines.samplers.heun import sample_heun
from pipelines.samplers.langevin import sample_langevin, sample_predictor_corrector
from pipelines.samplers.multistep import sample_dpmpp_2m, sample_dpmpp_2m_sde, sample_unipc
from pipelines.samplers.steps import karras, levels

SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "heun": sample_heun,
    "dpmpp_2m": sample_dpmpp_2m,
    "dpmpp_2m_sde": sample_dpmpp_2m_sde,
    "unipc": sample_unipc,
    "langevin": sample_langevin,
    "predictor_corrector": sample_predictor_corrector,
}
"""every sampler that the `sampling` section may name"""


def sample(
    recipe: Sampling, denoise: Denoise, noise: Tensor, table: Tensor, *, generator: Generator | None = None
) -> Tensor:
    """Draw as the `sampling` section says, from standard normal `noise` over the ascending levels `table` [T]."""
    sigmas = sample_levels(recipe, table).to(noise.device)
    x = noise * sigmas[0].to(noise.dtype)
    extra = {"eta": recipe.eta} if recipe.sampler == "ddim" else {}
    return SAMPLERS[recipe.sampler](denoise, x, sigmas, generator=generator, **extra)


def sample_levels(recipe: Sampling, table: Tensor) -> Tensor:
    """The levels that the `sampling` section visits: descending, then 0."""
    if recipe.spacing == "karras":
        # Of a lognormal table the ends are rarer than samples, and VP tables start far above any image's deviation.
        return karras(max(float(table[0]), 0.002), min(float(table[-1]), 80.0), recipe.steps)
    return levels(table, recipe.steps, recipe.spacing)
