"""Priors: the same logits code by code, no code depends on a later one, and all conditioning matters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from headrace import models
from headrace.models import Caption, Conditioning
from headrace.models.prior import Prior
from headrace.recipe.discrete import Prior as PriorRecipe
from headrace.recipe.text import Text

TEXT = Text(vocabulary=300, length=5, width=16, layers=1, heads=2)
KINDS = {
    "plain": {},
    "labels": {"labels": 3},
    "words": {"text": TEXT},
    "both": {"labels": 3, "text": TEXT, "positions": "rotary"},
    "cross": {"text": TEXT, "condition": "cross", "positions": "sinusoidal", "norm": "post"},
    "cross labels": {"labels": 3, "condition": "cross"},
    "lstm": {"core": "lstm", "labels": 3},
    "gru": {"core": "gru", "text": TEXT},
}


def prior(kind: str) -> Prior:
    torch.manual_seed(0)
    recipe = PriorRecipe(network="prior", codes=7, side=3, width=16, layers=2, heads=2, **KINDS[kind])  # type: ignore[arg-type]
    model = models.build(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def conditioning() -> Conditioning:
    tokens_NL = torch.randint(2, 300, (2, 5), generator=torch.Generator().manual_seed(1))
    tokens_NL[:, 0] = 1  # the begin token
    return Conditioning(torch.tensor([2, 0]), Caption(tokens_NL, torch.arange(5) < torch.tensor([[5], [3]])))


def codes() -> Tensor:
    return torch.randint(0, 7, (2, 9), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_one_code_at_a_time_the_logits_are_the_same(kind: str) -> None:
    model = prior(kind)
    whole_NLK = model(codes()[:, :-1], conditioning())
    assert whole_NLK.shape == (2, 9, 7)
    reading, logits_NK = model.begin(conditioning())
    steps = [logits_NK, *(model.go_on(reading, code_N) for code_N in codes()[:, :-1].unbind(1))]
    assert (torch.stack(steps, 1) - whole_NLK).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_future_leaks_nothing(kind: str) -> None:
    model = prior(kind)
    embedded: list[Tensor] = []
    model.embed.register_forward_hook(lambda module, inputs, out: embedded.append(out.retain_grad() or out))  # type: ignore[func-returns-value]
    for place in range(9):
        embedded.clear()
        logits_NK = model(codes()[:, :-1], conditioning())[:, place]
        (logits_NK * torch.arange(7)).sum().backward()
        (reached,) = embedded
        reach_L = torch.zeros(8) if reached.grad is None else reached.grad.abs().amax((0, 2))
        assert (reach_L[place:] == 0).all()
        assert (reach_L[:place] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_matters(kind: str) -> None:
    model = prior(kind)
    everything = torch.arange(7).repeat(2, 2)[:, :8]
    labels = Conditioning(
        torch.tensor([2, -1]), Caption(torch.arange(10).view(2, 5), torch.ones(2, 5, dtype=torch.bool))
    )
    out = model(everything, labels)
    (out * torch.randn_like(out)).sum().backward()
    unused = {"core.positions_LC", "context.labels.vectors.weight"}  # rows that no sample needs
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert name in unused or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plain"])
@torch.no_grad()
def test_conditioning_matters_and_its_absence_is_the_same_for_all(kind: str) -> None:
    model = prior(kind)
    before = codes()[:1, :4].expand(2, 4)
    one, other = model(before, conditioning())
    assert (one - other).abs().max() > 1e-3
    one, other = model(before, conditioning().dropped(torch.tensor([True, True])))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_caption_must_be_there() -> None:
    with pytest.raises(ValueError, match="caption: found nothing"):
        prior("words")(codes(), Conditioning(torch.tensor([-1, -1])))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"core": "gru", "condition": "cross", "labels": 3}, "prefix for gru"),
        ({"condition": "cross"}, "text or labels"),
        ({"heads": 3}, "heads that divide"),
        ({"positions": "rotary", "heads": 16, "width": 16}, "even number of channels"),
    ],
)
def test_networks_that_do_not_come_out_even(settings: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        PriorRecipe(network="prior", **settings)  # type: ignore[arg-type]
