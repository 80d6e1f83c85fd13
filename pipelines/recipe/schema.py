"""A whole recipe, and the recipe of a training run, which has every section that a run needs."""

from typing import Any

from pydantic import Field

from headrace.recipe.dataset import Dataset
from headrace.recipe.evaluation import Evaluation
from headrace.recipe.model import Model
from headrace.recipe.objective import Objective
from headrace.recipe.section import Section
from headrace.recipe.training import Data, Sampling, Training


class Recipe(Section):
    """One YAML file: a dataset build, a training run, or both. Paths are relative to the working directory."""

    spark: dict[str, str] = Field(default_factory=dict)
    """settings of the Spark session"""
    dataset: Dataset | None = None
    """the dataset build"""
    data: Data | None = None
    """what the trainer loads"""
    model: Model | None = None
    """the network"""
    objective: Objective | None = None
    """what is minimised"""
    training: Training | None = None
    """the training run"""
    sampling: Sampling | None = None
    """how samples are drawn from the run"""
    evaluation: Evaluation | None = None
    """how the finished run is measured"""


class RunRecipe(Recipe):
    """The recipe of a training run. None of these sections is None; the last two have defaults."""

    data: Data
    """what the trainer loads"""
    model: Model
    """the network"""
    objective: Objective
    """what is minimised"""
    training: Training
    """the training run"""
    sampling: Sampling = Sampling()
    """how samples are drawn from the run"""
    evaluation: Evaluation = Evaluation()
    """how the finished run is measured"""

    def changed(self, section: str, **values: Any) -> "RunRecipe":
        """A copy in which these keys of `section` have new values, which are not validated."""
        return self.model_copy(update={section: getattr(self, section).model_copy(update=values)})
