"""The `model` and `objective` sections of a ControlNet, and its use in sampling."""

from typing import Literal

from pydantic import Field

from headrace.recipe.section import Section


class ControlNet(Section):
    """A trainable copy of the encoder of a trained U-Net, which is frozen."""

    network: Literal["controlnet"]
    """the kind of network"""
    base: str
    """the run folder of the frozen U-Net"""


class Control(Section):
    """The loss of the base, by which only the ControlNet is trained."""

    family: Literal["control"]
    """the family of objectives"""
    min_snr: float | None = Field(5.0, gt=0)
    """γ of min-SNR weighting; null for none"""
    drop_caption: float = Field(0.5, ge=0, le=1)
    """share of samples trained on without their caption and label"""


class ControlUse(Section):
    """A ControlNet that guides samples."""

    run: str
    """the run folder of a ControlNet that was trained on this base"""
    strength: float = Field(1.0, ge=0, allow_inf_nan=False)
    """scale of its output: 1 as in training, 0 for none"""
    conditions: tuple[str, ...] = ()
    """image files of the size of the samples, one for each row; empty for the conditions of the examples"""
