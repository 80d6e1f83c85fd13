"""Guidance with an exact denoiser gives the exact guided score."""

import pytest
import torch
from torch import Tensor

from headrace import samplers
from headrace.models import Context
from tests.oracles.mixture import Mixture

ALL = Mixture([[-1.0, 0.0], [1.0, 0.3], [0.2, 1.2]], [0.3, 0.2, 0.4], [0.3, 0.5, 0.2])
LABELLED = [Mixture([ALL.means_KD[k].tolist()], [float(ALL.deviations_K[k])], [1.0]) for k in range(3)]
LABELS_N = torch.tensor([0, 1, 2, 1])
SIGMA = torch.tensor(0.8, dtype=torch.float64)
NOTHING = -1


def context(labels_N: Tensor) -> Context:
    """Labels as a context, of which only `pooled` is used here."""
    return Context(labels_N[:, None, None], torch.ones(len(labels_N), 1, dtype=torch.bool), labels_N[:, None])


class Conditional:
    """The exact denoiser of a label, or of all labels for NOTHING. It counts its calls."""

    calls = 0

    def __call__(self, x_ND: Tensor, sigma: Tensor, cond: Context) -> Tensor:
        self.calls += 1
        parts = [ALL if label == NOTHING else LABELLED[int(label)] for label in cond.pooled_ND[:, 0]]
        return torch.cat([part.denoise(x_ND[i : i + 1], sigma) for i, part in enumerate(parts)])


def points() -> Tensor:
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def score(log_density_N: Tensor, x_ND: Tensor) -> Tensor:
    return torch.autograd.grad(log_density_N.sum(), x_ND)[0]


def exact_guided_score(scale: float) -> Tensor:
    """∇ log p(x) + scale·(∇ log p(x | y) − ∇ log p(x)), by differentiating densities."""
    x_ND = points().requires_grad_()
    plain = score(ALL.log_density(x_ND, SIGMA), x_ND)
    labelled = torch.stack([LABELLED[int(k)].log_density(x_ND, SIGMA)[i] for i, k in enumerate(LABELS_N)])
    return plain + scale * (score(labelled, x_ND) - plain)


def classifier(x_ND: Tensor, sigma: Tensor) -> Tensor:
    return ALL.log_parts(x_ND, sigma)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.5])
def test_classifier_free_score_is_exact(scale: float) -> None:
    null = context(torch.full_like(LABELS_N, NOTHING))
    denoise = Conditional()
    guided = samplers.classifier_free(denoise, context(LABELS_N), null, scale)
    torch.testing.assert_close((guided(points(), SIGMA) - points()) / SIGMA**2, exact_guided_score(scale))
    assert denoise.calls == 1


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.5])
def test_classifier_score_is_exact(scale: float) -> None:
    guided = samplers.classifier_guided(ALL.denoise, classifier, LABELS_N, scale)
    torch.testing.assert_close((guided(points(), SIGMA) - points()) / SIGMA**2, exact_guided_score(scale))


def test_samples_guided_by_the_exact_classifier_are_of_their_label() -> None:
    count, sigmas = 2000, samplers.karras(0.01, 20.0, 40)
    labels_N = torch.full((count,), 2)
    x_ND = torch.randn(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * sigmas[0]
    drawn = samplers.sample_heun(samplers.classifier_guided(ALL.denoise, classifier, labels_N, 1.0), x_ND, sigmas)
    torch.testing.assert_close(drawn.mean(0), ALL.means_KD[2], rtol=0, atol=0.04)
    torch.testing.assert_close(drawn.std(0), ALL.deviations_K[2].expand(2), rtol=0, atol=0.03)


def test_a_negative_prompt_takes_the_place_of_the_null_caption() -> None:
    negative = samplers.classifier_free(Conditional(), context(LABELS_N), context((LABELS_N + 1) % 3), 2.0)
    parts = [Conditional()(points(), SIGMA, context(labels)) for labels in (LABELS_N, (LABELS_N + 1) % 3)]
    torch.testing.assert_close(negative(points(), SIGMA), 2 * parts[0] - parts[1])


@pytest.mark.parametrize(("scale", "labels_N"), [(1.0, LABELS_N), (0.0, torch.full_like(LABELS_N, NOTHING))])
def test_scales_that_need_one_side_alone_are_one_plain_call(scale: float, labels_N: Tensor) -> None:
    seen: list[Tensor] = []

    def denoise(x_ND: Tensor, sigma: Tensor, cond: Context) -> Tensor:
        seen.append(cond.pooled_ND[:, 0])
        return Conditional()(x_ND, sigma, cond)

    null = context(torch.full_like(LABELS_N, NOTHING))
    samplers.classifier_free(denoise, context(LABELS_N), null, scale)(points(), SIGMA)
    assert [labels.tolist() for labels in seen] == [labels_N.tolist()]


def test_outside_the_interval_the_caption_alone_counts() -> None:
    null = context(torch.full_like(LABELS_N, NOTHING))
    plain = Conditional()(points(), SIGMA, context(LABELS_N))
    for interval, inside in (((0.0, 0.8), True), ((0.8, 2.0), False), ((0.9, 2.0), False), ((0.1, 0.7), False)):
        guided = samplers.classifier_free(Conditional(), context(LABELS_N), null, 3.0, interval=interval)
        assert torch.equal(guided(points(), SIGMA), plain) != inside


def test_rescale_brings_the_deviation_back() -> None:
    null = context(torch.full_like(LABELS_N, NOTHING))
    plain = Conditional()(points(), SIGMA, context(LABELS_N))
    results = [
        samplers.classifier_free(Conditional(), context(LABELS_N), null, 5.0, rescale=share)(points(), SIGMA)
        for share in (0.0, 0.5, 1.0)
    ]
    torch.testing.assert_close(results[2].std(1), plain.std(1))
    torch.testing.assert_close(results[1], (results[0] + results[2]) / 2)
    assert not torch.allclose(results[0].std(1), plain.std(1), rtol=0.05)


@pytest.mark.parametrize("arguments", [{"rescale": 1.5}, {"rescale": -0.1}, {"interval": (1.0, 1.0)}])
def test_bad_guidance_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"found .*, expected"):
        samplers.classifier_free(Conditional(), context(LABELS_N), context(LABELS_N), 2.0, **arguments)  # type: ignore[arg-type]
