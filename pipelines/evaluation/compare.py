"""The figures of drawn images, by name, with confidence intervals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from headrace.evaluation.distances import frechet_distance, kernel_distance
from headrace.evaluation.edges import edge_agreement
from headrace.evaluation.features import ClassifierExtractor, extract
from headrace.evaluation.manifolds import modes, precision_recall
from headrace.evaluation.resampling import Measured, measured
from headrace.recipe.evaluation import Evaluation

Figures = dict[str, Measured]
Done = Callable[[int], None]
SET_HALVES = 3
"""how many statistics of sets are resampled (FID, KID, and the four of manifolds as one), for a progress bar"""


def set_figures(real_ND: Tensor, drawn_ND: Tensor, evaluation: Evaluation, done: Done) -> Figures:
    """FID, KID, precision, recall, density and coverage of drawn features against real ones."""
    return measured_all(
        {
            ("fid",): lambda *sets: (frechet_distance(*sets),),
            ("kid",): lambda *sets: (kernel_distance(*sets),),
            ("precision", "recall", "density", "coverage"): precision_recall,
        },
        (real_ND, drawn_ND),
        evaluation,
        done,
    )


def measured_all(
    statistics: dict[tuple[str, ...], Callable[..., tuple[float, ...]]],
    sets: tuple[Tensor, ...],
    evaluation: Evaluation,
    done: Done,
) -> Figures:
    """Each of `statistics` with its interval. A key holds the names of the figures that its function returns."""
    figures: Figures = {}
    for names, statistic in statistics.items():
        figures |= measured(names, statistic, sets, evaluation.resamples, evaluation.seed, done)
    return figures


def means(values: dict[str, Tensor], evaluation: Evaluation) -> Figures:
    """The mean of each of `values`, which holds one number for each image, with its interval."""
    figures: Figures = {}
    for name, each in values.items():
        figures |= measured(
            (name,), lambda some: (float(some.double().mean()),), (each,), evaluation.resamples, evaluation.seed
        )
    return figures


def agreement(requested_N: Tensor, recognised_N: Tensor) -> Tensor:
    """1 for each image that shows its label, otherwise 0: float64 [N]."""
    return (requested_N == recognised_N).double()


def edge_figures(conditions_NCHW: Tensor, drawn_NCHW: Tensor, evaluation: Evaluation) -> Figures:
    """Mean F1 of edges that match exactly, and of edges that match within `tolerance` pixels."""
    tolerances = sorted({0, evaluation.tolerance})
    values = {f"edge_f1_{each}px": edge_agreement(conditions_NCHW, drawn_NCHW, each) for each in tolerances}
    return means(values, evaluation)


def mode_figures(
    drawn_NCHW: Tensor, judge: ClassifierExtractor, evaluation: Evaluation, done: Done
) -> dict[str, float]:
    """The modes of images whose channels are separate images, and how evenly they occur."""
    channels = [extract(judge, channel, evaluation.batch_size, done).labels for channel in drawn_NCHW.split(1, 1)]
    found = modes(torch.stack([labels for labels in channels if labels is not None], 1), judge.classes)
    return {"modes_possible": found.possible, "modes": found.drawn, "modes_kl": found.kl}
