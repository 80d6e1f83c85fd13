"""Checks of a loader's arguments, alone and against the columns of the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from headrace.errors import RecipeError
from headrace.images.pixels import CHANNELS, Mode
from headrace.loading.feed.block import Policy
from headrace.loading.shard.columns import Field, fields_of
from headrace.loading.shard.geometry import Crop
from headrace.loading.shard.rows import Captions
from headrace.loading.table.plan import Plan

DEFAULT_DECODE: Mapping[str, Mode] = {"image": "rgb", "condition": "gray"}
SAMPLE_ID = "sample_id"


def check_numbers(**numbers: Any) -> None:
    """Raise RecipeError for a value that is neither None nor a whole number of at least 1."""
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or number < 1):
            raise RecipeError(f"{name}: found {number!r}, expected a whole number, at least 1")


def check_state(state: Any) -> tuple[int, int]:
    """The epoch and position in a loader's state. Raises RecipeError if one is missing or not a whole number ≥ 0."""
    if not isinstance(state, Mapping):
        raise RecipeError(f"state: found {type(state).__name__}, expected the dict that state_dict() returned")
    for name in ("epoch", "position"):
        if not isinstance(state.get(name), int) or state[name] < 0:
            raise RecipeError(f"state: found {name} = {state.get(name)!r}, expected a whole number, 0 or more")
    return state["epoch"], state["position"]


def check_choices(captions: str, on_bad_sample: str, crop: str) -> None:
    """Raise RecipeError for a value that is not one of its choices."""
    choices = (("captions", captions, Captions), ("on_bad_sample", on_bad_sample, Policy), ("crop", crop, Crop))
    for name, value, allowed in choices:
        if value not in get_args(allowed):
            raise RecipeError(f"{name}: found {value!r}, expected one of {', '.join(get_args(allowed))}")


def check_shares(flip: float, drop: Mapping[str, float]) -> None:
    """Raise RecipeError for a share outside 0 to 1."""
    for name, share in {"flip": flip, **{f"drop[{name!r}]": share for name, share in drop.items()}}.items():
        if not 0 <= share <= 1:
            raise RecipeError(f"{name}: found {share}, expected a share from 0 to 1")


def check_geometry(
    size: int | tuple[int, int] | None, crop: str, buckets: Sequence[tuple[int, int]] | None, decode: Mapping[str, Mode]
) -> None:
    """Raise RecipeError for a size that is not pixels, or for `size`, `crop` and `buckets` that do not fit together."""
    for name, one in [("size", size), *(("buckets", bucket) for bucket in buckets or ())]:
        sides = one if isinstance(one, Sequence) and not isinstance(one, str) else (one, one)
        if one is not None and (len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides)):
            raise RecipeError(f"{name}: found {one!r}, expected pixels, one side or (height, width), each at least 1")
    if buckets is not None:
        if size is not None or not buckets or not decode:
            raise RecipeError(
                f"buckets: found {buckets!r} with size={size} and decode={dict(decode)!r}, expected one or more "
                f"(height, width) without size, and a column to decode"
            )
    elif crop != "none" and size is None:
        raise RecipeError(f"size: found None, expected a size to crop to, because crop={crop!r}")


def select(
    plan: Plan, decode: Mapping[str, Mode], columns: Sequence[str] | None, drop: Mapping[str, float]
) -> tuple[dict[str, Mode], dict[str, Field]]:
    """The columns to decode, and the fields of the others by batch key. Raises RecipeError for an unknown name."""
    schema = plan.schema
    if isinstance(columns, str):
        raise RecipeError(f"columns: found {columns!r}, expected a list of names")
    chosen = list(schema.names) if columns is None else list(columns)
    if decode is DEFAULT_DECODE:
        decode = {name: mode for name, mode in decode.items() if name in chosen}
    for name in [*chosen, *decode]:
        if name not in schema.names:
            raise RecipeError(f"column {name}: found none in {plan.place.root}, expected one of {schema.names}")
    for name, mode in decode.items():
        if mode not in CHANNELS:
            raise RecipeError(f"decode[{name!r}]: found {mode!r}, expected one of {', '.join(CHANNELS)}")
    fields: dict[str, Field] = {}
    for name in chosen:
        if name not in decode:
            fields |= fields_of(schema.field(name))
    droppable = [*list(decode)[1:], *fields]
    for name in drop:
        if name not in droppable:
            raise RecipeError(f"drop: found {name!r}, expected one of {', '.join(droppable) or 'none of this dataset'}")
    return dict(decode), fields


def grouping(plan: Plan, captions: str, image_key: str | None, weight: str | None) -> tuple[str | None, str | None]:
    """The columns that identify images and weight their rows; (None, None) if every row is a sample.

    Raises RecipeError if the dataset lacks one of them.
    """
    if captions == "all":
        return None, None
    wanted: dict[str, Any] = {"image_key": image_key, **({"weight": weight} if captions == "weighted" else {})}
    for name, column in wanted.items():
        if column not in plan.schema.names:
            raise RecipeError(
                f"{name}: found {column!r}, expected a column of {plan.place.root} for captions={captions!r}"
            )
    return image_key, wanted.get("weight")
