"""A pretrained Transformer from a local folder, as the caption encoder."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headrace.errors import RecipeError
from headrace.models.text import Context
from headrace.recipe.text import FrozenText

FILES = ("config.json", "model.safetensors", "tokenizer.json")


def checked_folder(recipe: FrozenText) -> Path:
    """The encoder's folder. Raises RecipeError if a file is missing from it."""
    folder = Path(recipe.path)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise RecipeError(f"model.text.path: found no {missing[0]} in {folder}, expected {', '.join(FILES)}")
    return folder


class FrozenTextEncoder(nn.Module):
    """The hidden states of a frozen encoder, projected to the network's width by a trained layer.

    The frozen weights are not parameters of this module: no optimizer, average or checkpoint holds them. Every run
    reads them from their folder, which must not change. They move between devices with the module.
    """

    def __init__(self, recipe: FrozenText) -> None:
        """Raises RecipeError if the folder holds no encoder or `transformers` is not installed."""
        super().__init__()
        reader = _read(checked_folder(recipe))
        self._reader = (reader,)  # in a tuple, so that torch does not register its parameters
        self.project = nn.Linear(reader.config.hidden_size, recipe.width)
        self.norm = nn.LayerNorm(recipe.width)

    def forward(self, tokens_NL: Tensor, mask_NL: Tensor) -> Context:
        """Encode tokens (int64) under their mask (bool)."""
        with torch.no_grad():
            hidden_NLD = self._reader[0](input_ids=tokens_NL, attention_mask=mask_NL.long()).last_hidden_state
        x_NLD = self.norm(self.project(hidden_NLD))
        return Context(x_NLD, mask_NL, _mean(x_NLD, mask_NL))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._reader[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _mean(x_NLD: Tensor, mask_NL: Tensor) -> Tensor:
    """The mean over real tokens: [N, D]."""
    real_NL1 = mask_NL[..., None].to(x_NLD.dtype)
    return (x_NLD * real_NL1).sum(1) / real_NL1.sum(1).clamp(min=1)


def _read(folder: Path) -> Any:
    try:
        from transformers import AutoModel
    except ImportError:
        raise RecipeError("model.text: found no package transformers, expected headrace[text] installed") from None
    try:
        encoder = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except Exception as error:  # transformers raises many kinds of error for an unusable folder
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(f"model.text.path: found {reason} in {folder}, expected an encoder of text") from None
    if encoder.config.is_encoder_decoder:  # T5 and similar: only the encoder half reads captions
        encoder = encoder.get_encoder()
    return encoder.eval().requires_grad_(False)
