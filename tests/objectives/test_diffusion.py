"""The diffusion objective: its weights, its draws, and that its minimum is the exact denoiser."""

import pytest
import torch
from torch import Tensor, nn

from headrace import objectives
from headrace.draws import Draws
from headrace.models import Conditioning
from headrace.recipe.objective import Diffusion

COUNT = 64


class Spy(nn.Module):
    """A network that predicts zero and keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, c_noise: Tensor, conditioning: Conditioning) -> Tensor:
        self.seen = (x, c_noise, conditioning)
        return self.scale * x


def batch(count: int = COUNT) -> dict[str, Tensor]:
    image = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = torch.arange(count * 5).view(count, 5) % 50 + 2
    tokens[:, 0] = 1
    return {"image": image, "tokens": tokens, "tokens_mask": torch.ones(count, 5, dtype=torch.bool)}


def draws(seed: int = 0, start: int = 0, count: int = COUNT) -> Draws:
    return Draws(seed, torch.arange(start, start + count))


def test_there_is_one_phase_with_one_network() -> None:
    model = Spy()
    objective = objectives.Diffusion(Diffusion(), model)
    (phase,) = objective.phases()
    assert dict(objective.networks) == {"model": model}
    assert phase.networks == ("model",)
    loss, figures = phase.loss(batch(), draws())
    assert loss.shape == ()
    loss.backward()
    assert model.scale.grad is not None
    assert not figures["error"].requires_grad


@pytest.mark.parametrize("kind", ["epsilon", "v", "x0"])
def test_target_is_what_the_network_is_said_to_predict(kind: str) -> None:
    objective = objectives.Diffusion(Diffusion(prediction=kind, min_snr=None), Spy())  # type: ignore[arg-type]
    loss, _ = objective.loss(batch(), draws())
    sigma = objective.denoiser.schedule.quantile(draws().uniform("noise level")).view(-1, 1, 1, 1)
    signal, noise = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    n, x0 = draws().normal("noise", 3, 4, 4), batch()["image"]
    target = {"epsilon": n, "x0": x0, "v": signal * n - noise * x0}[kind]
    assert loss.item() == pytest.approx(target.square().mean().item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v", "x0"])
def test_min_snr_weights_the_error_of_the_image_alike_for_every_prediction(kind: str) -> None:
    objective = objectives.Diffusion(Diffusion(prediction=kind, min_snr=5.0), Spy())  # type: ignore[arg-type]
    sigma = torch.tensor([0.05, 0.3, 1.0, 4.0], dtype=torch.float64)
    c_out = objective.denoiser.preconditioning(sigma).c_out
    # For ε the weight is min(SNR, γ)/SNR, for v min(SNR, γ)/(SNR + 1) (Hang et al. 2023, section 3.4).
    snr = 1 / sigma**2
    over = {"epsilon": snr, "v": snr + 1, "x0": torch.ones_like(snr)}[kind]
    torch.testing.assert_close(objective.weight(sigma, c_out).double(), snr.clamp(max=5) / over, rtol=1e-5, atol=0)


def test_captions_are_dropped_per_sample_and_anew_at_every_step() -> None:
    model = Spy()
    objective = objectives.Diffusion(Diffusion(drop_caption=0.3), model)
    dropped = []
    for step in range(50):
        objective.loss(batch(), draws(start=step * COUNT))
        mask = model.seen[2].caption.mask_NL
        assert mask[:, 0].all()
        gone = ~mask[:, 1]
        assert torch.equal(mask, torch.ones_like(mask) & ~(gone[:, None] & (torch.arange(5) > 0)))
        assert (model.seen[2].caption.tokens_NL[gone][:, 1:] == 0).all()
        dropped.append(gone)
    table = torch.stack(dropped).float()
    # 3,200 draws: within 5 standard deviations of 0.3, and no sample or step stands out.
    assert abs(table.mean().item() - 0.3) < 0.04
    assert 0 < table.mean(0).min() < table.mean(0).max() < 0.7
    assert 0 < table.mean(1).min() < table.mean(1).max() < 0.7


@pytest.mark.parametrize(("share", "kept"), [(0.0, True), (1.0, False)])
def test_all_or_no_captions(share: float, kept: bool) -> None:
    model = Spy()
    objectives.Diffusion(Diffusion(drop_caption=share), model).loss(batch(), draws())
    assert bool((model.seen[2].caption.mask_NL[:, 1:] == kept).all())


def test_ranks_together_do_what_one_would() -> None:
    objective = objectives.Diffusion(Diffusion(), Spy())
    whole, _ = objective.loss(batch(), draws())
    halves = [
        objective.loss({key: value[part] for key, value in batch().items()}, Draws(0, torch.arange(COUNT)[part]))[0]
        for part in (slice(0, COUNT // 2), slice(COUNT // 2, COUNT))
    ]
    assert whole.item() == pytest.approx(sum(half.item() for half in halves) / 2, rel=1e-5)
    assert objective.loss(batch(), draws(seed=1))[0].item() != whole.item()
