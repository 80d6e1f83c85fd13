"""Samplers do the same as the schedulers of `diffusers` on the same network outputs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headrace import samplers
from headrace.models import Denoiser, schedule
from headrace.models.precondition import Epsilon, V

diffusers = pytest.importorskip("diffusers")

STEPS = 20
SHAPE = (2, 3, 4, 4)
COMMON: dict[str, Any] = {"num_train_timesteps": 1000, "timestep_spacing": "trailing"}
BETAS: dict[str, dict[str, Any]] = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "epsilon"},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
}


def network(x: Tensor, step: Tensor | float) -> Tensor:
    """A fixed function in place of a trained network: bounded, and dependent on both arguments."""
    return torch.sin(x) * 0.7 + torch.cos(x.roll(1, -1) + float(step) / 300) * 0.3


def theirs(scheduler: Any, seed: int, *, injected: bool = False, **arguments: Any) -> Tensor:
    """Their loop. `injected` passes the noise in, for a scheduler that would draw it in float32."""
    scheduler.set_timesteps(STEPS)
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = samplers.levels(table(scheduler).sigmas, STEPS, "trailing")  # theirs, in float64
    generator = torch.Generator().manual_seed(seed)
    x: Tensor = start().as_subclass(Exact)
    for step in scheduler.timesteps:
        if injected:
            arguments["variance_noise"] = torch.randn(SHAPE, generator=generator, dtype=x.dtype).as_subclass(Exact)
        x = scheduler.step(network(x, step), step, x, **arguments).prev_sample
    return x.as_subclass(Tensor)


class Exact(Tensor):
    """A tensor that stays float64 where their step would cast it to float32."""

    def to(self, *arguments: Any, **keywords: Any) -> Tensor:
        wanted = keywords.get("dtype", arguments[0] if arguments else None)
        return self if wanted is torch.float32 else super().to(*arguments, **keywords)


def ours(sampler: Callable[..., Tensor], scheduler: Any, seed: int, **arguments: Any) -> Tensor:
    """Our loop, on their table of levels."""
    levels = table(scheduler)
    kind = {"epsilon": Epsilon, "v_prediction": V}[scheduler.config.prediction_type]
    denoiser = Denoiser(Network(), kind(levels), levels)
    spacing = {"trailing": "trailing", "leading": "uniform"}[scheduler.config.timestep_spacing]
    sigmas = samplers.levels(levels.sigmas, STEPS, spacing)  # type: ignore[arg-type]
    x = start() * (1 + sigmas[0] ** 2).sqrt()
    return sampler(denoiser, x, sigmas, generator=torch.Generator().manual_seed(seed), **arguments)


def table(scheduler: Any) -> schedule.Schedule:
    return schedule.Schedule(((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt())


class Network(torch.nn.Module):
    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        return network(x, step[0].round())


def start() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def exact(scheduler: Any) -> Any:
    """Their scheduler with its tables in float64, because 1 − ᾱ loses digits in float32."""
    scheduler.betas = scheduler.betas.double()
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


@pytest.mark.parametrize("kind", BETAS)
def test_noise_levels(kind: str) -> None:
    scheduler = exact(diffusers.DDPMScheduler(**COMMON, **BETAS[kind]))
    # Their β are float32, and the cosine's 0.999 is close to 1, so the last level has five correct digits.
    torch.testing.assert_close(schedule.build(kind).sigmas, table(scheduler).sigmas, rtol=1e-4, atol=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", BETAS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(kind: str, eta: float) -> None:
    scheduler = exact(diffusers.DDIMScheduler(**COMMON, **BETAS[kind], clip_sample=False))
    expected = theirs(scheduler, 5, eta=eta, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(ours(samplers.sample_ddim, scheduler, 5, eta=eta), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", BETAS)
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm(kind: str, variance: str) -> None:
    # With trailing steps and large variance, theirs adds noise even to the final, clean image.
    arguments = COMMON | BETAS[kind] | {"timestep_spacing": "leading", "clip_sample": False}
    scheduler = exact(diffusers.DDPMScheduler(**arguments, variance_type=f"fixed_{variance}"))
    expected = theirs(scheduler, 5, generator=torch.Generator().manual_seed(5))
    drawn = ours(samplers.sample_ddpm, scheduler, 5, variance=variance)
    torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__")
@pytest.mark.parametrize("kind", BETAS)
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
def test_dpm_solver(kind: str, algorithm: str) -> None:
    scheduler = exact(diffusers.DPMSolverMultistepScheduler(**COMMON, **BETAS[kind], algorithm_type=algorithm))
    expected = theirs(scheduler, 5, injected=True)
    sampler = samplers.sample_dpmpp_2m if algorithm == "dpmsolver++" else samplers.sample_dpmpp_2m_sde
    torch.testing.assert_close(ours(sampler, scheduler, 5), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__")
@pytest.mark.parametrize("kind", BETAS)
def test_unipc(kind: str) -> None:
    scheduler = exact(diffusers.UniPCMultistepScheduler(**COMMON, **BETAS[kind], solver_order=2, solver_type="bh2"))
    expected = theirs(scheduler, 5)
    torch.testing.assert_close(ours(samplers.sample_unipc, scheduler, 5), expected, rtol=1e-5, atol=1e-5)
