"""The sections of a ControlNet: its network and its loss, and how ControlNets are used in sampling."""

from typing import Literal

from pydantic import Field

from headrace.recipe.section import Section


class ControlNet(Section):
    """A trainable copy of the encoder of a trained U-Net, which itself stays as it is."""

    network: Literal["controlnet"]
    """the kind of network"""
    base: str
    """the run of the U-Net that is to obey"""


class Control(Section):
    """The loss of the base, of which the ControlNet alone is trained."""

    family: Literal["control"]
    """what is minimised"""
    min_snr: float | None = Field(5.0, gt=0)
    """γ of min-SNR weighting; null for none"""
    drop_caption: float = Field(0.5, ge=0, le=1)
    """share of samples trained without their caption and label"""


class ControlUse(Section):
    """A ControlNet that samples obey."""

    run: str
    """the run of a ControlNet, trained for this base"""
    strength: float = Field(1.0, ge=0, allow_inf_nan=False)
    """how much it is obeyed: 1 as trained, 0 not at all"""
    conditions: tuple[str, ...] = ()
    """image files of the size of the samples, one for each row; none: the conditions of the examples"""
