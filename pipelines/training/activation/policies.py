"""The policies by name, and the one call that applies them."""

from __future__ import annotations

from typing import Literal

from torch import nn

from pipelines.errors import RecipeError
from pipelines.training.activation.blocks import blocks_of
from pipelines.training.activation.budget import BudgetChain, Report
from pipelines.training.activation.chain import Chain, attach
from pipelines.training.activation.extend import extend, restore
from pipelines.training.activation.plan import segments_of, square_root
from pipelines.training.activation.selective import Selective

Policy = Literal["none", "full", "every_k", "sqrt", "selective"]


def apply(model: nn.Module, policy: Policy | int, *, every: int = 2, report: Report = print) -> None:
    """Checkpoint the activations of `model`'s blocks (see `blocks_of`), in place; a later call replaces an earlier one.

    - none: each block keeps what its backward needs.
    - full: each block keeps its input and runs again in the backward pass.
    - every_k: segments of `every` blocks keep the segment's input.
    - sqrt: segments of √n blocks.
    - selective: each block keeps the outputs of matrix products, convolutions and attention, and computes again the
      rest.
    - a number: the bytes that the blocks may hold. The first step measures them, each block computed again; from the
      second on a plan fits the budget with the least extra time, and `report` gets it as a table.

    Names of parameters, state dicts and gradients stay the same. Raises RecipeError if the model has no blocks.
    """
    blocks = blocks_of(model)
    if not blocks and policy != "none":
        raise RecipeError(
            f"training.activation: found {policy!r} for a model without blocks, expected items of an nn.ModuleList "
            "or an attribute `blocks`"
        )
    plans = {
        "full": segments_of(len(blocks), 1),
        "every_k": segments_of(len(blocks), every),
        "sqrt": square_root(len(blocks)),
    }
    for block in blocks:
        restore(block)
    if isinstance(policy, int):
        attach(blocks, BudgetChain(len(blocks), policy, report))
    elif policy == "selective":
        for block in blocks:
            extend(block, Selective)
    elif policy in plans:
        attach(blocks, Chain(plans[policy]))
    elif policy != "none":
        known = ", ".join(("none", *plans, "selective"))
        raise RecipeError(f"training.activation: found {policy!r}, expected one of {known}")
