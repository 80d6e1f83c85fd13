"""From a table of captioned images to a trained generative model.

The names below are imported on first use, so that importing headrace is fast and a worker needs no Spark.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace import activation, udfs
    from headrace.dataset import flatten
    from headrace.loading import Mixture, ShardLoader

__version__ = "0.1.0"
__all__ = ["Mixture", "ShardLoader", "__version__", "activation", "flatten", "udfs"]

_HOMES = {"Mixture": "loading", "ShardLoader": "loading", "flatten": "dataset"}
_ROOMS = {"activation", "udfs"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"headrace.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"headrace.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
