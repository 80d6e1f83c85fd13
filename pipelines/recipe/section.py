"""The base of every recipe section: unknown keys are errors and values never change."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a recipe. Each field's description is what an error message calls «expected»."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
