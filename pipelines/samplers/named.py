"""The sampler and the noise levels that a recipe's `sampling` section names."""

import inspect
from collections.abc import Callable

from torch import Tensor

from headrace.errors import RecipeError
from headrace.recipe.training import Sampling
from headrace.samplers.denoise import SAMPLERS, Denoise, Generator
from headrace.samplers.steps import karras, levels


def named(recipe: Sampling) -> Callable[..., Tensor]:
    """The sampler that the `sampling` section names. Raises RecipeError for an unknown name."""
    if recipe.sampler not in SAMPLERS:
        raise RecipeError(f"sampling.sampler: found {recipe.sampler!r}, expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[recipe.sampler]


def sample(
    recipe: Sampling, denoise: Denoise, noise: Tensor, table: Tensor, *, generator: Generator | None = None
) -> Tensor:
    """Draw as the `sampling` section says, from standard normal `noise` over the ascending levels `table` [T].

    Keys of the section that the sampler has arguments for are passed to it, unless they are null.
    """
    function = named(recipe)
    sigmas = sample_levels(recipe, table).to(noise.device)
    keys = inspect.signature(function).parameters.keys() & type(recipe).model_fields.keys()
    extra = {key: value for key in keys if (value := getattr(recipe, key)) is not None}
    return function(denoise, noise * sigmas[0].to(noise.dtype), sigmas, generator=generator, **extra)


def sample_levels(recipe: Sampling, table: Tensor) -> Tensor:
    """The levels that the `sampling` section visits: descending, then 0."""
    if recipe.spacing == "karras":
        # The ends of a lognormal table are too rare to sample from; VP tables start far above any image's deviation.
        return karras(max(float(table[0]), 0.002), min(float(table[-1]), 80.0), recipe.steps)
    return levels(table, recipe.steps, recipe.spacing)
