"""The `model` section is a U-Net's by default, or a Transformer's. Errors refer to the one that the recipe chose."""

from pathlib import Path

import pytest

from headrace import models
from headrace.errors import RecipeError
from headrace.recipe import load_recipe


def recipe(folder: Path, model: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(f"model: {model}\n")
    return str(path)


@pytest.mark.parametrize(
    ("model", "kind"),
    [("{channels: 32}", models.TextToImage), ("{network: unet}", models.TextToImage), ("{network: dit}", models.DiT)],
)
def test_the_network_is_what_the_recipe_names(model: str, kind: type, tmp_path: Path) -> None:
    section = load_recipe(recipe(tmp_path, model)).model
    assert section is not None
    assert type(models.build(section)) is kind


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("{chanels: 3}", "model.chanels: found an unknown key, expected one of network, .*channels.*mean channels"),
        (
            "{network: dit, channels: 3}",
            "model.channels: found an unknown key, expected one of network, .*width, layers",
        ),
        ("{network: dit, widht: 3}", "model.widht: .*did you mean width"),
        ("{network: perceptron}", "model.network: found 'perceptron', expected one of unet, dit"),
        ("{network: dit, width: wide}", "model.width: found 'wide', .*channels of a patch"),
        ("{text: {layers: 0}}", "model.text.layers: found 0, .*Transformer blocks"),
    ],
)
def test_errors_name_the_key_and_what_is_expected(model: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=line):
        load_recipe(recipe(tmp_path, model))
