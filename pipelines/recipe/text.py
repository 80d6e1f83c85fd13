"""The `text` part of a `model` section: how captions are encoded."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from headrace.recipe.section import Section, tag_of


def check_heads(name: str, channels: int, heads: int) -> None:
    """Raise ValueError unless `channels` is divisible by `heads`."""
    if channels % heads:
        raise ValueError(f"heads that divide the {channels} {name}, not {heads}")


class Text(Section):
    """A Transformer that encodes captions and is trained with the network."""

    encoder: Literal["transformer"] = "transformer"
    """the kind of encoder: transformer or frozen"""
    vocabulary: int = Field(2048, ge=260)
    """number of byte-pair tokens, including special ones"""
    length: int = Field(16, ge=2)
    """tokens of a caption; longer ones are cut off"""
    width: int = Field(128, ge=8)
    """channels of a token"""
    layers: int = Field(2, ge=1)
    """Transformer blocks"""
    heads: int = Field(4, ge=1)
    """attention heads"""

    @model_validator(mode="after")
    def _check_sizes(self) -> "Text":
        check_heads("width", self.width, self.heads)
        return self


class FrozenText(Section):
    """A frozen pretrained encoder of captions, with a trained layer on top."""

    encoder: Literal["frozen"]
    """the kind of encoder: transformer or frozen"""
    path: str
    """a folder with config.json, model.safetensors and tokenizer.json, as `transformers` saves them"""
    length: int = Field(24, ge=2)
    """tokens of a caption; longer ones are cut off"""
    width: int = Field(128, ge=8)
    """channels of a token after the trained layer"""


TextEncoding = Annotated[
    Annotated[Text, Tag("[transformer]")] | Annotated[FrozenText, Tag("[frozen]")],
    Discriminator(tag_of("encoder", "transformer")),
]
"""A `text` section; `encoder` selects its kind."""
