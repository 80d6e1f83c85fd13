"""The likelihood of codes: by hand, in bits, and learnt by a prior down to the codes' entropy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from headrace import models
from headrace.draws import Draws
from headrace.models import Conditioning
from headrace.objectives import CodeLikelihood
from headrace.objectives.prior import code_nats
from headrace.recipe.discrete import AutoregressivePrior
from headrace.recipe.discrete import Prior as PriorRecipe


class Codes(nn.Module):
    """Takes the place of an autoencoder: the codes of an image are its four pixels."""

    def codes(self, image_NCHW: Tensor) -> Tensor:
        return image_NCHW[:, 0].long()


def likelihood(core: str = "transformer", drop: float = 0.25) -> CodeLikelihood:
    torch.manual_seed(0)
    model = models.build(
        PriorRecipe(network="prior", core=core, codes=4, side=2, width=32, layers=1, heads=2, labels=3)  # type: ignore[arg-type]
    )
    return CodeLikelihood(AutoregressivePrior(family="prior", autoencoder="", drop=drop), model, Codes())  # type: ignore[arg-type]


def batch(count: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """The first code is uniform, the second the label, the third the sum of both mod 4, the last one of two."""
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.randint(0, 3, (count,), generator=generator)
    first_N = torch.randint(0, 4, (count,), generator=generator)
    last_N = torch.randint(0, 2, (count,), generator=generator)
    codes_NL = torch.stack([first_N, label_N, (first_N + label_N) % 4, last_N], 1)
    return {"image": codes_NL.view(-1, 1, 2, 2).float(), "label": label_N}


def test_the_loss_is_the_mean_negative_log_likelihood() -> None:
    objective, data = likelihood(drop=0.0), batch(8)
    loss, figures = objective.loss(data, Draws(0, torch.arange(8), 1))
    codes_NL = data["image"].flatten(1).long()
    nats = 0.0
    for sample in range(8):
        conditioning = Conditioning(data["label"][sample : sample + 1])
        for place in range(4):
            logits = objective.model(codes_NL[sample : sample + 1, :place], conditioning)[0, -1]
            nats -= logits.log_softmax(0)[codes_NL[sample, place]].item()
    assert loss.item() == pytest.approx(nats / 32, rel=1e-5)
    assert figures["bits"].item() == pytest.approx(nats / 32 / math.log(2), rel=1e-5)


def test_a_share_of_the_samples_loses_its_conditioning() -> None:
    objective, data = likelihood(), batch(400)
    seen: list[Tensor] = []
    objective.model.prefix.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0].label_N))
    objective.loss(data, Draws(0, torch.arange(400), 1))
    (label_N,) = seen
    assert (label_N == -1).float().mean() == pytest.approx(0.25, abs=0.07)
    assert torch.equal(label_N[label_N >= 0], data["label"][label_N >= 0])


@pytest.mark.parametrize("core", ["transformer", "lstm", "gru"])
def test_every_network_learns_the_entropy_of_the_codes(core: str) -> None:
    """2 bits for the first code, none for the second and third, 1 for the last: 0.75 a code with conditioning."""
    objective = likelihood(core, drop=0.1)
    optimizer = torch.optim.Adam(objective.model.parameters(), 5e-3)
    for step in range(1, 251):
        loss, _ = objective.loss(batch(seed=step), Draws(0, torch.arange(64) + 64 * step, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    data = batch(512, seed=999)
    with torch.no_grad():
        bits = code_nats(
            objective.model, objective.autoencoder, data["image"], Conditioning(data["label"])
        ).mean() / math.log(2)
        unconditional = code_nats(
            objective.model, objective.autoencoder, data["image"], Conditioning(torch.full((512,), -1))
        ).mean()
    assert bits.item() == pytest.approx(0.75, abs=0.06)
    # Without conditioning, the label is a code of log₂ 3 bits.
    assert unconditional.item() / math.log(2) == pytest.approx((3 + math.log2(3)) / 4, abs=0.15)
