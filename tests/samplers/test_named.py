"""Every sampler that a recipe can name runs over the levels that the recipe names."""

import pytest
import torch

from headrace import samplers
from headrace.errors import RecipeError
from headrace.models import schedule
from headrace.recipe.training import Sampling
from tests.oracles.mixture import Mixture

GAUSSIAN = Mixture([[0.3, -0.2]], [0.1], [1.0])


def test_the_recipe_s_description_names_every_sampler() -> None:
    assert set((Sampling.model_fields["sampler"].description or "").replace(" or ", ", ").split(", ")) == set(
        samplers.SAMPLERS
    )


def test_an_unknown_sampler_is_refused() -> None:
    recipe = Sampling(prompts=("x",), sampler="ddimm")
    with pytest.raises(RecipeError, match=r"sampling.sampler: found 'ddimm', expected one of ddim, ddpm, "):
        samplers.named(recipe)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("levels", ["cosine", "linear", "lognormal"])
def test_it_draws_what_the_denoiser_knows(name: str, levels: str) -> None:
    recipe = Sampling(prompts=("x",), sampler=name, steps=20, spacing="karras")  # type: ignore[arg-type]
    noise_ND = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = schedule.build(levels).sigmas  # type: ignore[arg-type]
    x_ND = samplers.sample(recipe, GAUSSIAN.denoise, noise_ND, table, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(x_ND.mean(0), GAUSSIAN.means_KD[0], rtol=0, atol=0.05)
    # 20 steps are few for the ancestral ones.
    torch.testing.assert_close(x_ND.std(0), GAUSSIAN.deviations_K.expand(2), rtol=0.5, atol=0)


@pytest.mark.parametrize("spacing", ["trailing", "uniform", "quadratic", "karras"])
def test_one_step_and_all_steps_are_levels_too(spacing: str) -> None:
    noise_ND = torch.randn(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for steps in (1, 1000):
        recipe = Sampling(prompts=("x",), steps=steps, spacing=spacing)  # type: ignore[arg-type]
        x_ND = samplers.sample(recipe, GAUSSIAN.denoise, noise_ND, schedule.cosine().sigmas)
        assert x_ND.isfinite().all()


def test_eta_reaches_ddim() -> None:
    noise_ND = torch.randn(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    quiet, noisy = (
        samplers.sample(
            Sampling(prompts=("x",), steps=10, eta=eta),
            GAUSSIAN.denoise,
            noise_ND,
            schedule.cosine().sigmas,
            generator=torch.Generator().manual_seed(1),
        )
        for eta in (0.0, 1.0)
    )
    assert not torch.allclose(quiet, noisy, atol=1e-3)
