"""A whole recipe."""

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
    """what is drawn at the end"""
    evaluation: Evaluation | None = None
    """how the finished run is measured"""
