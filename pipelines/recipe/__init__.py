"""Typed recipes: one YAML file for each dataset build or training run, validated in full before any work starts.

The sections are plain data and import neither torch nor pyspark, so every job can validate every section.
"""

from headrace.recipe.load import load_recipe, load_run_recipe
from headrace.recipe.schema import Recipe, RunRecipe

__all__ = ["Recipe", "RunRecipe", "load_recipe", "load_run_recipe"]
