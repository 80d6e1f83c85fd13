"""The `evaluation` section: the real images and the networks that a run is measured with."""

from typing import Any

from pydantic import Field, field_validator

from headrace.recipe.section import Section


class Evaluation(Section):
    """How a trained run is measured: drawn images against real ones, by the features of a network."""

    features: str | None = None
    """the network whose features are compared: a classifier's run folder or a TorchScript file, say Inception"""
    judge: str | None = None
    """the run folder of a classifier that recognises labels in drawn images; null for `features` if it is one"""
    images: int = Field(2000, ge=12)
    """how many images are drawn"""
    reals: int | None = Field(None, ge=12)
    """how many real images they are compared with; null for as many as are drawn"""
    path: str | None = None
    """the dataset of real images; null for the run's own"""
    where: dict[str, str] | None = None
    """values of partition columns of the real images; null for those of the training data"""
    label: str | None = None
    """the column of labels that a judge should recognise; null for the run's own"""
    stacked: bool = False
    """whether each channel is a separate image; modes are then combinations of their labels"""
    tolerance: int = Field(1, ge=0)
    """pixels by which edges may miss the edges of the condition"""
    resamples: int = Field(50, ge=2)
    """random halves of the images to take confidence intervals from"""
    batch_size: int = Field(128, ge=1)
    """images that go through a network at a time"""
    sweep: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """keys of `sampling` with the values to try; every combination is measured"""
    seed: int = 0
    """the seed of the choice of real images and of the halves"""

    @field_validator("sweep")
    @classmethod
    def _check_values(cls, sweep: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        if not all(sweep.values()):
            raise ValueError("values for each key, as in guidance: [1, 2, 4]")
        return sweep
