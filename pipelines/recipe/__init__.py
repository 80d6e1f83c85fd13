"""Typed recipes: one YAML file per dataset build or training run, checked whole before anything starts.

The sections are plain data and import neither torch nor pyspark, so every job can check every section.
"""

from headrace.recipe.load import load_recipe
from headrace.recipe.schema import Recipe

__all__ = ["Recipe", "load_recipe"]
