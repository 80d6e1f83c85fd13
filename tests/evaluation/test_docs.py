"""The recipe section in docs/evaluation.md is valid, and its table names every figure."""

import re
from pathlib import Path

import yaml

from headrace.evaluation.manifolds import Manifolds
from headrace.recipe.evaluation import Evaluation

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def test_the_section() -> None:
    (section,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert Evaluation.model_validate(yaml.safe_load(section)["evaluation"]).images == 2000


def test_every_figure_is_explained() -> None:
    table = PAGE[PAGE.index("## Figures") :]
    for name in ("fid", "kid", *Manifolds._fields, "label_agreement", "modes", "psnr", "codebook_usage", "accuracy"):
        assert f"`{name}`" in table
