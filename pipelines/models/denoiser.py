"""The interface between networks and everything else: a denoiser gives E[x₀ | x, σ]."""

from typing import Any

from torch import Tensor, nn

from headrace.errors import RecipeError
from headrace.models import schedule
from headrace.models.precondition import PREDICTIONS, Preconditioning
from headrace.models.schedule import Schedule
from headrace.recipe.objective import Diffusion


class Denoiser(nn.Module):
    """D(x, σ, cond) = c_skip·x + c_out·F(c_in·x, c_noise, cond) (Karras et al. 2022, equation 7).

    `network(x_NCHW, c_noise_N, *cond)` returns the shape of x. `schedule` is what it is trained on; samplers take their
    noise levels from its table.
    """

    def __init__(self, network: nn.Module, preconditioning: Preconditioning, schedule: Schedule) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        self.schedule = schedule

    def predict(self, x_NCHW: Tensor, sigma_N: Tensor, *cond: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The network's output F [N, C, H, W], and c_skip and c_out [N, 1, 1, 1], all of x's dtype."""
        *factors, c_noise_N = (each.to(x_NCHW.dtype) for each in self.preconditioning(sigma_N.double()))
        c_skip, c_out, c_in = (factor.view(-1, *[1] * (x_NCHW.dim() - 1)) for factor in factors)
        return self.network(c_in * x_NCHW, c_noise_N, *cond).to(x_NCHW.dtype), c_skip, c_out

    def forward(self, x_NCHW: Tensor, sigma: Tensor | float, *cond: Any) -> Tensor:
        """The denoised image E[x₀ | x, σ], [N, C, H, W], from x = x₀ + σ·n and σ (one number, or [N])."""
        sigma_N = x_NCHW.new_tensor(sigma) if not isinstance(sigma, Tensor) else sigma.to(x_NCHW.device)
        output, c_skip, c_out = self.predict(x_NCHW, sigma_N.expand(len(x_NCHW)), *cond)
        return c_skip * x_NCHW + c_out * output

    denoise = forward


def check_prediction(name: str) -> None:
    """Raise RecipeError for an unknown prediction."""
    if name not in PREDICTIONS:
        raise RecipeError(f"objective.prediction: found {name!r}, expected one of {', '.join(PREDICTIONS)}")


def denoiser(network: nn.Module, recipe: Diffusion) -> Denoiser:
    """The denoiser that `recipe` describes around `network`, for both training and sampling.

    Raises RecipeError for an unknown prediction.
    """
    check_prediction(recipe.prediction)
    levels = schedule.build(recipe.schedule)
    return Denoiser(network, PREDICTIONS[recipe.prediction](levels), levels)
