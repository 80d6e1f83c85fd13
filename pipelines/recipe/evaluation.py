"""The `evaluation` section: what a run is measured against, and by which eyes."""

from typing import Any

from pydantic import Field, field_validator

from headrace.recipe.section import Section


class Evaluation(Section):
    """How a trained run is measured: drawn images against real ones, in the features of a network."""

    features: str | None = None
    """a run folder of a classifier, or a TorchScript file of a network (Inception), whose features are compared"""
    judge: str | None = None
    """a run folder of a classifier that says what drawn images show; null for `features` where that is a classifier"""
    images: int = Field(2000, ge=12)
    """images drawn"""
    reals: int | None = Field(None, ge=12)
    """real images compared with; null for as many as are drawn"""
    path: str | None = None
    """the dataset of real images; null for the run's own"""
    where: dict[str, str] | None = None
    """values of partition columns of the real images; null for those that the run was trained on"""
    label: str | None = None
    """the column of labels that a judge is to see in the drawn images; null for the run's own"""
    stacked: bool = False
    """whether each channel is an image of its own: modes are combinations of their labels"""
    tolerance: int = Field(1, ge=0)
    """pixels by which edges may miss those asked for"""
    resamples: int = Field(50, ge=2)
    """halves of the images from which confidence intervals come"""
    batch_size: int = Field(128, ge=1)
    """images seen at a time"""
    sweep: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """keys of `sampling` with the values to try: every combination is measured"""
    seed: int = 0
    """the seed of which real images are taken, and of the halves"""

    @field_validator("sweep")
    @classmethod
    def _not_empty(cls, sweep: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        if not all(sweep.values()):
            raise ValueError("values for each key, as in guidance: [1, 2, 4]")
        return sweep
