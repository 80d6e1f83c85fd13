"""An exported denoiser gives the same samples in diffusers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from headrace import models, samplers
from headrace.recipe.objective import Diffusion

diffusers = pytest.importorskip("diffusers")


class Network(torch.nn.Module):
    """A fixed function of image and step."""

    def forward(self, x_NCHW: Tensor, step_N: Tensor) -> Tensor:
        return 0.8 * torch.tanh(x_NCHW.flip(-1)) + 0.2 * torch.cos(step_N / 300).view(-1, 1, 1, 1)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_exported_schedule_gives_the_same_images(prediction: str, schedule: str, tmp_path: Path) -> None:
    recipe = Diffusion(prediction=prediction, schedule=schedule)  # type: ignore[arg-type]
    assert samplers.save_scheduler(recipe, tmp_path) == tmp_path / "scheduler_config.json"
    scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path)
    scheduler.set_timesteps(10)
    start = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = start
    for step in scheduler.timesteps:
        theirs = scheduler.step(Network()(theirs, step.expand(2)), step, theirs).prev_sample
    denoise = models.denoiser(Network(), recipe)
    sigmas = samplers.levels(denoise.schedule.sigmas, 10)
    ours = samplers.sample_ddim(denoise, start * (1 + sigmas[0] ** 2).sqrt(), sigmas)
    # ᾱ is float32 there; an ε-prediction divides by its root, which is 5·10⁻⁵ at the cosine's last step.
    tolerance = 0.05 if (prediction, schedule) == ("epsilon", "cosine") else 1e-3
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("change", [{"prediction": "edm"}, {"schedule": "geometric"}])
def test_what_has_no_table_is_refused(change: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found .*, expected one of"):
        samplers.save_scheduler(Diffusion.model_validate(change), tmp_path)
