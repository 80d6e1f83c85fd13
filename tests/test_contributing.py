"""The examples in CONTRIBUTING.md do what it says, and its table of rooms is the one that import-linter checks."""

from __future__ import annotations

import configparser
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from headrace import samplers
from headrace.models import denoiser, schedule
from headrace.models.precondition import PREDICTIONS
from headrace.recipe.objective import Diffusion
from headrace.recipe.training import Sampling
from tests.oracles.mixture import Mixture

PLANE = Mixture([[-1.0, 0.0], [1.0, 0.3], [0.2, 1.2]], [0.5, 0.4, 0.6], [0.3, 0.5, 0.2])
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def examples() -> Iterator[dict[str, Any]]:
    """The names that the examples define. The registries are restored afterwards."""
    kept = dict(samplers.SAMPLERS), dict(PREDICTIONS)
    defined: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "CONTRIBUTING.md", "exec"), defined)
    yield defined
    for registry, before in zip((samplers.SAMPLERS, PREDICTIONS), kept, strict=True):
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


def test_the_sampler_is_known_to_recipes_draws_from_a_mixture_and_is_of_order_two(examples: dict[str, Any]) -> None:
    noise_ND = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    recipe = Sampling(sampler="midpoint", steps=40, spacing="karras")
    x_ND = samplers.sample(recipe, PLANE.denoise, noise_ND, schedule.geometric().sigmas)
    assert (PLANE.shares(x_ND) - PLANE.shares(PLANE.sample(2000, 1))).abs().max() < 0.04

    def solution(solver: Any, count: int) -> Tensor:
        sigmas = torch.logspace(math.log10(5), math.log10(0.2), count + 1, dtype=torch.float64)
        return solver(PLANE.denoise, 5 * noise_ND[:200], sigmas)

    exact = solution(samplers.sample_heun, 2000)
    coarse, fine = (
        solution(examples["sample_midpoint"], count).sub(exact).square().mean().sqrt() for count in (20, 40)
    )
    assert abs(math.log2(coarse / fine) - 2) < 0.25


def test_the_prediction_makes_the_exact_denoiser_of_an_exact_network(examples: dict[str, Any]) -> None:
    levels = schedule.cosine()

    def network(x: Tensor, step_N: Tensor) -> Tensor:
        """E[x₀ − n] for standard normal images, from (1 − t)·x₀ + t·n."""
        sigma = torch.lerp(
            levels.log_sigmas[step_N.floor().long()], levels.log_sigmas[step_N.ceil().long()], step_N % 1
        )
        t = (sigma.exp() / (1 + sigma.exp()))[:, None]
        return (1 - 2 * t) / ((1 - t) ** 2 + t**2) * x

    denoise = denoiser(network, Diffusion(prediction="flow"))  # type: ignore[arg-type]
    sigma_N = torch.tensor([0.02, 0.3, 1.0, 7.0, 60.0], dtype=torch.float64)
    x_NC = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * sigma_N[:, None]
    torch.testing.assert_close(denoise(x_NC, sigma_N), x_NC / (1 + sigma_N[:, None] ** 2), rtol=1e-6, atol=1e-9)


def house() -> list[tuple[list[str], str]]:
    """The table of rooms: each row's rooms, and what they must not import."""
    (table,) = re.findall(r"\| room \|.*?\n\n", PAGE, re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return [(re.findall(r"`(?:pipelines/)?(\w+)(?:/|\.py)`", rooms), banned) for rooms, _, banned in rows]


def test_the_house_is_the_contract_of_import_linter() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = setup["importlinter:contract:rooms"]["layers"].replace("|", " ").split()
    assert [room for rooms, _ in house() for room in rooms] == layers
    for contract, library in (("without-torch", "torch"), ("without-spark", "pyspark")):
        sources = setup[f"importlinter:contract:{contract}"]["source_modules"].split()
        stated = {f"headrace.{room}" for rooms, banned in house() for room in rooms if library in banned.split(", ")}
        assert stated == set(sources)


def test_the_house_has_every_room() -> None:
    on_disk = {path.stem for path in (ROOT / "pipelines").iterdir() if path.is_dir() or path.suffix == ".py"}
    listed = {room for rooms, _ in house() for room in rooms}
    assert listed == on_disk - {"__init__", "__pycache__"} | {"jobs", "udfs"}
