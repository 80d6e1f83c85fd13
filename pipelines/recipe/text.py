"""The part of a `model` section that says how captions are encoded."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from headrace.recipe.section import Section, tag_of


def check_heads(name: str, channels: int, heads: int) -> None:
    """Raise ValueError unless `heads` share `channels` evenly."""
    if channels % heads:
        raise ValueError(f"heads that divide the {channels} {name}, not {heads}")


class Text(Section):
    """The Transformer that encodes captions, trained with the rest."""

    encoder: Literal["transformer"] = "transformer"
    """transformer, or frozen"""
    vocabulary: int = Field(2048, ge=260)
    """byte-pair tokens, special ones included"""
    length: int = Field(16, ge=2)
    """tokens kept of a caption"""
    width: int = Field(128, ge=8)
    """channels of a token"""
    layers: int = Field(2, ge=1)
    """Transformer blocks"""
    heads: int = Field(4, ge=1)
    """attention heads"""

    @model_validator(mode="after")
    def _comes_out_even(self) -> "Text":
        check_heads("width", self.width, self.heads)
        return self


class FrozenText(Section):
    """A pretrained encoder of captions that stays as it is; a layer on top is trained."""

    encoder: Literal["frozen"]
    """transformer, or frozen"""
    path: str
    """a folder with config.json, model.safetensors and tokenizer.json, as `transformers` saves them"""
    length: int = Field(24, ge=2)
    """tokens kept of a caption"""
    width: int = Field(128, ge=8)
    """channels that the trained layer makes of a token"""


TextEncoding = Annotated[
    Annotated[Text, Tag("[transformer]")] | Annotated[FrozenText, Tag("[frozen]")],
    Discriminator(tag_of("encoder", "transformer")),
]
"""A `text` section, told apart by `encoder`."""
