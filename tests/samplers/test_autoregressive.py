"""Drawing codes: the right frequencies, filters by their definitions, guidance, and a sliding window."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headrace import models
from headrace.draws import Draws
from headrace.models import Conditioning
from headrace.models.prior import Prior
from headrace.recipe.discrete import Prior as PriorRecipe
from headrace.samplers.autoregressive import Choice, Guidance, sample_codes, sample_window

UNIFORM = (torch.arange(20_000) + 0.5) / 20_000


def shares(choice: Choice, logits: list[float]) -> Tensor:
    codes = choice(torch.tensor([logits]).expand(len(UNIFORM), -1), UNIFORM)
    return torch.bincount(codes, minlength=len(logits)) / len(UNIFORM)


def test_frequencies_are_those_of_the_softmax() -> None:
    logits = [0.3, -1.0, 2.0, 0.0]
    for temperature in (0.5, 1.0, 3.0):
        expected = (torch.tensor(logits) / temperature).softmax(0)
        torch.testing.assert_close(shares(Choice(temperature), logits), expected, atol=2e-4, rtol=0)


def test_top_k_and_top_p_by_hand() -> None:
    logits = [math.log(share) for share in (0.1, 0.4, 0.2, 0.3)]
    tolerance = {"atol": 2e-4, "rtol": 0}
    torch.testing.assert_close(shares(Choice(top_k=2), logits), torch.tensor([0, 4 / 7, 0, 3 / 7]), **tolerance)
    torch.testing.assert_close(shares(Choice(top_k=1), logits), torch.tensor([0, 1.0, 0, 0]), **tolerance)
    torch.testing.assert_close(shares(Choice(top_k=99), logits), torch.tensor([0.1, 0.4, 0.2, 0.3]), **tolerance)
    torch.testing.assert_close(shares(Choice(top_p=0.6), logits), torch.tensor([0, 4 / 7, 0, 3 / 7]), **tolerance)
    torch.testing.assert_close(shares(Choice(top_p=0.72), logits), torch.tensor([0, 4 / 9, 2 / 9, 3 / 9]), **tolerance)
    torch.testing.assert_close(shares(Choice(top_p=1e-9), logits), torch.tensor([0, 1.0, 0, 0]), **tolerance)
    torch.testing.assert_close(
        shares(Choice(top_k=3, top_p=0.5), logits), torch.tensor([0, 4 / 7, 0, 3 / 7]), **tolerance
    )


@given(
    logits=st.lists(st.floats(-30, 30), min_size=1, max_size=9),
    top_k=st.none() | st.integers(1, 9),
    top_p=st.floats(0.01, 1),
    uniform=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=200, deadline=None)
def test_what_is_dropped_is_never_drawn(logits: list[float], top_k: int | None, top_p: float, uniform: float) -> None:
    logits_K = torch.tensor(logits, dtype=torch.float64)
    code = int(Choice(top_k=top_k, top_p=top_p)(logits_K[None], torch.tensor([uniform]))[0])
    more_likely = logits_K > logits_K[code]
    assert top_k is None or more_likely.sum() < top_k
    assert logits_K.softmax(0)[more_likely].sum() < top_p + 1e-9


def prior(side: int = 3, core: str = "transformer", labels: int | None = 2) -> Prior:
    torch.manual_seed(0)
    recipe = PriorRecipe(network="prior", core=core, codes=6, side=side, width=16, layers=1, heads=2, labels=labels)  # type: ignore[arg-type]
    return models.build(recipe)


def draws(first: int = 0, count: int = 4) -> Draws:
    return Draws(0, torch.arange(first, first + count))


@pytest.mark.parametrize("core", ["transformer", "lstm", "gru"])
def test_codes_follow_from_the_logits_of_the_whole_sequence(core: str) -> None:
    """With or without memory, each code is the one that its uniform number picks from p(code | codes before it)."""
    model, conditioning = prior(core=core), Conditioning(torch.tensor([0, 1, 1, -1]))
    guidance = Guidance(Conditioning(torch.full((4,), -1)), 2.0)
    for guide in (None, guidance):
        codes = sample_codes(model, conditioning, draws(), Choice(top_p=0.9), guide).flatten(1)
        uniform = draws().uniform("codes", 9)
        with torch.no_grad():
            logits = model(codes[:, :-1], conditioning)
            if guide:
                null = model(codes[:, :-1], guide.null)
                logits = null + 2 * (logits - null)
        again = torch.stack([Choice(top_p=0.9)(logits[:, place], uniform[:, place]) for place in range(9)], 1)
        assert torch.equal(codes, again)


def test_how_many_are_drawn_at_once_changes_nothing() -> None:
    model, conditioning = prior(), Conditioning(torch.tensor([0, 1, 1, 0]))
    whole = sample_codes(model, conditioning, draws(), Choice())
    parts = [
        sample_codes(model, Conditioning(conditioning.label_N[n : n + 1]), draws(n, 1), Choice()) for n in range(4)
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_guidance_moves_codes_towards_the_conditioning() -> None:
    model = prior(side=1)
    with torch.no_grad():
        model.head.weight.mul_(3)
    conditioning, null = Conditioning(torch.zeros(4000, dtype=torch.int64)), Conditioning(torch.full((4000,), -1))
    target = (model.begin(conditioning)[1] - model.begin(null)[1])[0].argmax()
    rates = []
    for scale in (1.0, 2.0, 4.0):
        codes = sample_codes(model, conditioning, draws(count=4000), Choice(), Guidance(null, scale))
        rates.append((codes == target).float().mean().item())
    assert rates[0] < rates[1] < rates[2]
    plain = sample_codes(model, conditioning, draws(count=4000), Choice())
    assert rates[0] == pytest.approx((plain == target).float().mean().item(), abs=1e-3)


def test_a_window_of_the_whole_image_draws_the_same_codes() -> None:
    model, conditioning = prior(), Conditioning(torch.tensor([0, 1, 1, 0]))
    guidance = Guidance(Conditioning(torch.full((4,), -1)), 1.5)
    for guide in (None, guidance):
        whole = sample_codes(model, conditioning, draws(), Choice(), guide)
        assert torch.equal(sample_window(model, conditioning, draws(), Choice(), guide, height=3, width=3), whole)


def test_a_larger_image_keeps_the_rule_that_was_learnt() -> None:
    """A prior of diagonal stripes, (row + column + start) mod 3, also draws stripes on a grid of another shape."""
    torch.manual_seed(0)
    model = models.build(PriorRecipe(network="prior", codes=3, side=4, width=32, layers=2, heads=2))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    start = torch.arange(3)[:, None, None]
    stripes = ((rows + columns + start) % 3).flatten(1)
    unconditional = Conditioning(torch.full((3,), -1))
    for _ in range(200):
        loss = torch.nn.functional.cross_entropy(model(stripes[:, :-1], unconditional).transpose(1, 2), stripes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    conditioning = Conditioning(torch.full((6,), -1))
    codes = sample_window(model, conditioning, draws(count=6), Choice(temperature=0.5), height=7, width=9)
    assert codes.shape == (6, 7, 9)
    right = (codes[:, 1:] == (codes[:, :-1] + 1) % 3).float().mean()
    right_along = (codes[:, :, 1:] == (codes[:, :, :-1] + 1) % 3).float().mean()
    assert min(right, right_along) > 0.95
    assert len(codes[:, 0, 0].unique()) > 1


def test_a_canvas_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="found 2 × 5, expected at least 3 × 3"):
        sample_window(prior(), Conditioning(torch.tensor([0])), draws(count=1), Choice(), height=2, width=5)
