"""Read a recipe, apply overrides, and report in one line what is wrong with it."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from headrace.errors import RecipeError
from headrace.recipe.schema import Recipe, RunRecipe
from headrace.recipe.section import is_branch

RUN_SECTIONS = ("data", "model", "objective", "training")
"""the sections that the recipe of a run must have"""
FOUND_CHARACTERS = 80


def load_recipe(path: str, overrides: Sequence[str] = (), needs: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path`, with `key.path=value` overrides applied.

    Values are YAML, except where a recipe takes any key with a text, as in `data.where.day=2026-11-22`: there, the key
    may have dots, and the value is taken as it stands. `spark.sql.shuffle.partitions=4` sets the Spark setting of that
    name.

    `needs` names the sections that must be there. Raises RecipeError; its message is one line that names the file, the
    key, the value found and what is expected.
    """
    raw = _read(path)
    for override in overrides:
        _apply(raw, override)
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_printable(_one_line(error))}") from None
    for section in needs:
        if getattr(recipe, section) is None:
            raise RecipeError(f"{path}: {section}: found nothing, expected this section")
    return recipe


def load_run_recipe(path: str, overrides: Sequence[str] = ()) -> RunRecipe:
    """Read the recipe of a run as `load_recipe` does. `sampling` and `evaluation` get their defaults if left out.

    Raises RecipeError as `load_recipe` does, and if one of `RUN_SECTIONS` is missing.
    """
    recipe = load_recipe(path, overrides, RUN_SECTIONS)
    return RunRecipe.model_validate({name: section for name, section in recipe if section is not None})


def _read(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "text that is not UTF-8"
        raise RecipeError(f"{path}: found {reason}, expected a recipe in YAML") from None
    try:
        raw = yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "invalid text"
        raise RecipeError(f"{path}: found {problem}{where}, expected YAML") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: found {_shown(raw)}, expected sections: {', '.join(Recipe.model_fields)}")
    return raw


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML in which a section must not repeat a key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"argument: found {override!r}, expected key.path=value")
    parts = key.split(".")
    depth, values = _mapping_in(parts) or (len(parts) - 1, None)
    parents, last = parts[:depth], ".".join(parts[depth:])
    if parents == ["spark"] and not last.startswith("spark."):
        last = key  # the section is called like the prefix of Spark's own names
    try:
        value = text if values is str else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise RecipeError(f"{key}: found {text!r}, expected a value in YAML") from None
    section = raw
    for parent in parents:
        if section.get(parent) is None:
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise RecipeError(f"{key}: found {_shown(section)} at {parent}, expected a section")
    section[last] = value


def _mapping_in(parts: Sequence[str]) -> tuple[int, Any] | None:
    """Where the path of a key enters a mapping from any text to plain values.

    Returns how many parts lead to the mapping, and the type of its values; None if the path names keys of sections.
    """
    sections: list[type[BaseModel]] = [Recipe]
    for depth, part in enumerate(parts[:-1], 1):
        annotations = [section.model_fields[part].annotation for section in sections if part in section.model_fields]
        sections = [model for annotation in annotations for model in _models_of(annotation)]
        for annotation in annotations:
            for mapping in (annotation, *get_args(annotation)):  # it may be optional
                if get_origin(mapping) is dict and not sections:
                    return depth, get_args(mapping)[1]
    return None


def _one_line(error: ValidationError) -> str:
    first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if not _is_branch(part)]
    key = ".".join(str(part) for part in location)
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        known = list(_section_at(first["loc"][:-1]).model_fields)
        close = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{key}: found an unknown key, expected one of {', '.join(known)}{hint}{more}"
    if first["type"] == "union_tag_invalid":
        tags = first["ctx"]["expected_tags"].replace("'", "").replace("[", "").replace("]", "")
        kind = next(iter(_section_at(first["loc"]).model_fields))
        return f"{key}.{kind}: found {_shown(first['ctx']['tag'][1:-1])}, expected one of {tags}{more}"
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    expected = expected[0].lower() + expected[1:]
    meaning = _description(first["loc"])
    if meaning:
        expected += f": {meaning}"
    found = "nothing" if first["type"] == "missing" else _shown(first["input"])
    return f"{key}: found {found}, expected {'this key' if first['type'] == 'missing' else expected}{more}"


def _printable(text: str) -> str:
    """`text` with line breaks and other unprintable characters escaped; a key may hold any character."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _is_branch(part: object) -> bool:
    """Whether `part` of an error's location is a branch of a union, which pydantic adds and no user writes."""
    return isinstance(part, str) and ("[" in part or part in {"int", "str", "float", "bool"})


def _section_at(location: Sequence[object]) -> type[BaseModel]:
    section: type[BaseModel] = Recipe
    branches: list[type[BaseModel]] = []
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            branches = _models_of(section.model_fields[part].annotation)
            section = branches[0] if branches else section
        elif isinstance(part, str) and part.startswith("["):
            section = next(branch for branch in branches if is_branch(branch, part))
    return section


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_of(argument)]


def _description(location: Sequence[object]) -> str:
    while location and _is_branch(location[-1]):
        location = location[:-1]
    if not location:
        return ""
    field = _section_at(location[:-1]).model_fields.get(str(location[-1]))
    return (field.description or "") if field else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= FOUND_CHARACTERS else f"{text[:FOUND_CHARACTERS]}…"
