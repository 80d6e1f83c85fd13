"""Bottlenecks: nearest codes, gradients, moving averages, revival, and the same state however a batch is split."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headrace.draws import Draws
from headrace.models.bottleneck import Grid, Normal, perplexity, straight_through
from headrace.models.codebook import Codebook
from headrace.recipe.discrete import FSQ, KL, VQ


def draws(first: int = 0, count: int = 4) -> Draws:
    return Draws(0, torch.arange(first, first + count))


def codebook(**settings: object) -> Codebook:
    torch.manual_seed(0)
    return Codebook(VQ(kind="vq", codes=16, channels=3, **settings))  # type: ignore[arg-type]


def features(count: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cosine", [False, True])
def test_codes_are_the_nearest(cosine: bool) -> None:
    book, h_NCHW = codebook(cosine=cosine), features()
    latent = book.latent(h_NCHW)
    distances = torch.cdist(latent.permute(0, 2, 3, 1).reshape(-1, 3), book.vectors_KC)
    assert torch.equal(book.codes(latent).flatten(), distances.argmin(1))
    assert torch.equal(book.codes(book.embed(book.codes(latent))), book.codes(latent))
    if cosine:
        torch.testing.assert_close(book.embed(book.codes(latent)).norm(dim=1), torch.ones(4, 5, 5))


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_gradient_goes_straight_through(update: str) -> None:
    """d loss / d z is d loss / d z_q, and the penalties' gradients are those of equation 3."""
    book, h_NCHW = codebook(update=update), features().requires_grad_()
    through = book(h_NCHW, draws())
    quantised = book.settle(h_NCHW).detach().requires_grad_()
    assert torch.allclose(through.z_NCHW, quantised, atol=1e-6)
    weights = torch.randn_like(h_NCHW)
    (by_definition,) = torch.autograd.grad((weights * quantised.sin()).sum(), quantised)
    (found,) = torch.autograd.grad((weights * through.z_NCHW.sin()).sum(), h_NCHW, retain_graph=True)
    torch.testing.assert_close(found, by_definition)
    (commitment,) = torch.autograd.grad(through.penalties["commitment"], h_NCHW, retain_graph=True)
    torch.testing.assert_close(commitment, 2 * (h_NCHW - quantised).detach() / h_NCHW.numel())
    if update == "gradient":
        (moved,) = torch.autograd.grad(through.penalties["codebook"], book.vectors_KC)
        chosen, vectors = book.codes(h_NCHW).flatten(), h_NCHW.permute(0, 2, 3, 1).reshape(-1, 3)
        expected = torch.zeros_like(moved).index_add_(0, chosen, 2 * (book.vectors_KC[chosen] - vectors).detach())
        torch.testing.assert_close(moved, expected / h_NCHW.numel())
    else:
        assert not list(book.parameters())


def test_straight_through_is_its_definition() -> None:
    z = torch.randn(5, requires_grad=True)
    out = straight_through(z, z.round())
    assert torch.equal(out, z.round())
    (gradient,) = torch.autograd.grad((out**2).sum(), z)
    torch.testing.assert_close(gradient, 2 * z.detach().round())


def test_moving_averages_are_those_of_the_paper() -> None:
    book = codebook(revive=0.0, decay=0.9)
    with torch.no_grad():
        book.uses_K.fill_(2.0)
        book.sums_KC.copy_(2.0 * book.vectors_KC)
    before = book.vectors_KC.clone()
    vectors = features().permute(0, 2, 3, 1).reshape(-1, 3)
    chosen = book.codes(features()).flatten()
    book(features(), draws())
    assert torch.equal(book.vectors_KC, before), "nothing changes before `update`"
    book.update()
    for code in range(16):
        mine = vectors[chosen == code]
        uses, total = 0.9 * 2 + 0.1 * len(mine), 0.9 * 2 * before[code] + 0.1 * mine.sum(0)
        torch.testing.assert_close(book.vectors_KC[code], total / uses)


def test_evaluation_changes_nothing() -> None:
    book = codebook().eval()
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(features(), draws())
    book.update()
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_codes_that_nobody_uses_start_anew_among_what_was_seen(update: str) -> None:
    book, h_NCHW = codebook(update=update, revive=0.1), features()
    with torch.no_grad():
        book.vectors_KC[3:] += 100.0
    vectors = {tuple(v) for v in h_NCHW.permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    book(h_NCHW, draws())
    book.update()  # at first no code counts as used
    assert all(tuple(vector) in vectors for vector in book.vectors_KC.tolist())
    assert len({tuple(vector) for vector in book.vectors_KC.tolist()}) == 16
    kept = book.vectors_KC[0].clone()
    for step in range(1, 400):
        one = kept[None, :, None, None].expand(4, 3, 5, 5) + 1e-4 * features(seed=step)
        book(one, draws(4 * step))
        book.update()
    near = (book.vectors_KC - kept).norm(dim=1) < 0.01
    assert near.float().mean() > 0.9


def test_more_dead_codes_than_vectors() -> None:
    torch.manual_seed(0)
    book = Codebook(VQ(kind="vq", codes=40, channels=3))
    h_NCHW = features(1)
    book(h_NCHW, draws(count=1))
    book.update()
    revived = (book.vectors_KC[:, None] == h_NCHW[0].flatten(1).T).all(-1).any(1)
    alive = book.uses_K >= 0.05 * 25 / 40
    assert 25 <= revived.sum() <= 33
    assert (~alive).any(), "what no vector is left for waits"


@given(
    cuts=st.lists(st.integers(1, 7), max_size=3), update=st.sampled_from(["ema", "gradient"]), seed=st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_how_a_batch_is_cut_changes_nothing(cuts: list[int], update: str, seed: int) -> None:
    whole, parts = codebook(update=update), codebook(update=update)
    for step in range(3):
        h_NCHW = features(8, seed + step)
        whole(h_NCHW, draws(8 * step, 8))
        edges = [0, *sorted(set(cuts)), 8]
        for start, stop in itertools.pairwise(edges):
            parts(h_NCHW[start:stop], draws(8 * step + start, stop - start))
        whole.update()
        parts.update()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_non_finite_batch_leaves_the_codebook_alone() -> None:
    book = codebook()
    book(features(), draws())
    book.update()
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(features() * float("nan"), draws(4))
    book.update()
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())


def test_the_grid_has_every_point_once() -> None:
    grid = Grid(FSQ(kind="fsq", levels=(4, 3, 5)))
    codes = torch.arange(60).view(1, 6, 10)
    points = grid.embed(codes)
    assert torch.equal(grid.codes(points), codes)
    assert len({tuple(point) for point in points[0].flatten(1).T.tolist()}) == 60
    assert points.min() == -1
    assert points.max() == 1
    for channel, levels in enumerate((4, 3, 5)):
        expected = torch.linspace(-1, 1, levels)
        torch.testing.assert_close(points[0, channel].unique(), expected)


def test_the_grid_rounds_to_the_nearest_point_and_its_gradient_is_tanhs() -> None:
    grid = Grid(FSQ(kind="fsq", levels=(4, 3, 5)))
    h_NCHW = features().requires_grad_()
    through = grid(h_NCHW, draws())
    error = (through.z_NCHW - h_NCHW.tanh()).abs().amax((0, 2, 3))
    assert (error <= 1 / (torch.tensor([4, 3, 5]) - 1) + 1e-6).all()
    assert not through.penalties
    (gradient,) = torch.autograd.grad(through.z_NCHW.sum(), h_NCHW)
    torch.testing.assert_close(gradient, 1 - h_NCHW.detach().tanh().square())


def test_the_divergence_is_that_of_torch() -> None:
    normal = Normal(KL(kind="kl", channels=2))
    h_NCHW = torch.randn(3, 4, 2, 2)
    mean, log_variance = h_NCHW.chunk(2, 1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    through = normal(h_NCHW, draws(count=3))
    torch.testing.assert_close(through.penalties["kl"], expected.flatten(1).sum(1).mean())
    assert torch.equal(normal.latent(h_NCHW), mean)
    many = torch.cat([normal(h_NCHW[:1].expand(500, -1, -1, -1), draws(500 * n, 500)).z_NCHW for n in range(8)])
    torch.testing.assert_close(many.mean(0), mean[0], atol=0.15, rtol=0)
    torch.testing.assert_close(many.std(0), (log_variance[0] / 2).exp(), rtol=0.06, atol=0)


def test_perplexity() -> None:
    assert perplexity(torch.arange(8).view(2, 2, 2), 16).item() == pytest.approx(8)
    assert perplexity(torch.zeros(4, 2, 2, dtype=torch.int64), 16).item() == pytest.approx(1)
