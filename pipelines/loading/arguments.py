"""Checks of a loader's arguments, alone and against the columns of the dataset."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import pyarrow as pa
import torch

from headrace.errors import RecipeError
from headrace.images.pixels import CHANNELS, Mode
from headrace.loading.feed.block import Policy
from headrace.loading.shard.columns import Field, fields_of, is_bytes
from headrace.loading.shard.geometry import Crop
from headrace.loading.shard.rows import Captions
from headrace.loading.table.plan import Plan

DEFAULT_DECODE: Mapping[str, Mode] = {"image": "rgb", "condition": "gray"}
SAMPLE_ID = "sample_id"
_LONGEST = 1 << 14
"""pixels of the longest side of a batch: that of the largest square that is decoded"""


_LARGEST = (1 << 31) - 1
_WHOLE = {
    "version": (0, _LARGEST),
    "seed": (-(1 << 63), (1 << 64) - 1),
    "memory": (1, 1 << 62),
    "cache_bytes": (1, 1 << 62),
    "threads": (1, 1024),
    "prefetch": (1, 1024),
}
"""the least and the largest value of whole numbers; for others, 1 and 2³¹ − 1"""


def check_numbers(**numbers: Any) -> None:
    """Raise RecipeError for a value that is neither None nor a whole number within its limits."""
    for name, number in numbers.items():
        least, largest = _WHOLE.get(name, (1, _LARGEST))
        if number is not None and (type(number) is not int or not least <= number <= largest):
            raise RecipeError(f"{name}: found {number!r}, expected a whole number, at least {least}, up to {largest}")


_TYPES: dict[str, tuple[tuple[Any, ...], str]] = {
    "path": ((str, os.PathLike), "a path or a URI"),
    "cache": ((str, os.PathLike), "a path"),
    "decode": ((Mapping,), "a mode for each column"),
    "where": ((Mapping,), "a value for each partition column"),
    "drop": ((Mapping,), "a share for each column"),
    "storage_options": ((Mapping,), "a value for each option"),
    "columns": ((list, tuple), "a list of names"),
    "buckets": ((list, tuple), "a list of (height, width)"),
    "image_key": ((str,), "the name of a column"),
    "weight": ((str,), "the name of a column"),
    "hook": ((Callable,), "a function of a batch"),
    "sample_hook": ((Callable,), "a function of a sample"),
    "device": ((str, torch.device), "a device"),
    "shuffle": ((bool,), "true or false"),
    "drop_last": ((bool,), "true or false"),
}


def check(values: Mapping[str, Any]) -> None:
    """Raise RecipeError for a value of a loader's argument that is not of its type, or beyond its limits."""
    whole = ("batch_size", "world_size", "threads", "epochs", "lanes", "window", "prefetch", *_WHOLE)
    check_numbers(**{name: values[name] for name in whole})
    for name in ("batch_size", "world_size", "window", "memory", "prefetch", "path", "decode", "seed", "cache_bytes"):
        if values[name] is None:
            raise RecipeError(f"{name}: found None, expected a value")
    check_types(**{name: values[name] for name in _TYPES})
    check_timeout(values["timeout"])


def check_types(**values: Any) -> None:
    """Raise RecipeError for a value that is neither None nor of the type of its argument."""
    for name, value in values.items():
        types, expected = _TYPES[name]
        if value is not None and not isinstance(value, types):
            raise RecipeError(f"{name}: found {value!r}, expected {expected}")
    for name in ("decode", "where", "drop", "storage_options", "columns"):
        for key in values.get(name) or ():
            if not isinstance(key, str):
                raise RecipeError(f"{name}: found {key!r}, expected the name of a column or an option")


def checked_device(device: torch.device | str | None) -> torch.device | None:
    """The device of this name. Raises RecipeError."""
    try:
        return None if device is None else torch.device(device)
    except RuntimeError as error:
        raise RecipeError(f"device: found {device!r}, expected one that PyTorch knows, such as cuda or cpu") from error


def check_timeout(timeout: Any) -> None:
    """Raise RecipeError for a time that is no finite number of seconds above 0."""
    if not _is_number(timeout) or not 0 < timeout <= threading.TIMEOUT_MAX:
        raise RecipeError(f"timeout: found {timeout!r}, expected seconds, above 0 and finite")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
        if value not in list(get_args(allowed)):
            raise RecipeError(f"{name}: found {value!r}, expected one of {', '.join(get_args(allowed))}")


def check_shares(flip: float, drop: Mapping[str, float]) -> None:
    """Raise RecipeError for a share outside 0 to 1."""
    for name, share in {"flip": flip, **{f"drop[{name!r}]": share for name, share in drop.items()}}.items():
        if not _is_number(share) or not 0 <= share <= 1:
            raise RecipeError(f"{name}: found {share!r}, expected a share from 0 to 1")


def check_geometry(
    size: int | tuple[int, int] | None, crop: str, buckets: Sequence[tuple[int, int]] | None, decode: Mapping[str, Mode]
) -> None:
    """Raise RecipeError for a size that is not pixels, or for `size`, `crop` and `buckets` that do not fit together."""
    for name, one in [("size", size), *(("buckets", bucket) for bucket in buckets or ())]:
        sides = one if isinstance(one, Sequence) and not isinstance(one, str) else (one,) * (2 if name == "size" else 1)
        fits = len(sides) == 2 and all(type(side) is int and 0 < side <= _LONGEST for side in sides)
        if (one is not None or name == "buckets") and not fits:
            raise RecipeError(
                f"{name}: found {one!r}, expected pixels, one side or (height, width), each at least 1 and at most "
                f"{_LONGEST}"
            )
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
    chosen = list(schema.names) if columns is None else list(columns)
    if decode is DEFAULT_DECODE:
        decode = {name: mode for name, mode in decode.items() if name in chosen}
    for name in [*chosen, *decode]:
        if name not in schema.names:
            raise RecipeError(f"column {name}: found none in {plan.place.root}, expected one of {schema.names}")
    for name, mode in decode.items():
        if mode not in list(CHANNELS):
            raise RecipeError(f"decode[{name!r}]: found {mode!r}, expected one of {', '.join(CHANNELS)}")
        if not _holds_images(schema.field(name).type):
            kind = schema.field(name).type
            raise RecipeError(f"decode: found column {name} of type {kind}, expected binary, or a struct with `bytes`")
    fields: dict[str, Field] = {}
    for name in chosen:
        if name not in decode:
            fields |= fields_of(schema.field(name))
    droppable = [*list(decode)[1:], *fields]
    for name in drop:
        if name not in droppable:
            raise RecipeError(f"drop: found {name!r}, expected one of {', '.join(droppable) or 'none of this dataset'}")
    return dict(decode), fields


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type)
    return is_bytes(kind)


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
