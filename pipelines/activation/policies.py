"""The checkpointing policies by name, and the function that applies them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from headrace.activation.blocks import blocks_of
from headrace.activation.budget import BudgetChain, Report
from headrace.activation.chain import Applied, Chain, Compiled, attach, compile_forward, extend, restore
from headrace.activation.plan import each, segments_of, square_root
from headrace.activation.selective import attach_selective
from headrace.errors import RecipeError

Policy = Literal["none", "full", "every_k", "sqrt", "selective"]


def apply(
    model: nn.Module | Sequence[nn.Module],
    policy: Policy | int,
    *,
    every: int = 2,
    report: Report = print,
    compile: bool = False,
) -> Applied:
    """Checkpoint the activations of `model`'s blocks (see `blocks_of`), in place; a later call replaces an earlier one.

    - none: each block keeps what its backward needs.
    - full: each block keeps its input and runs again in the backward pass.
    - every_k: segments of `every` blocks each keep the segment's input; the last segment keeps everything.
    - sqrt: the same with segments of √n blocks.
    - selective: each block keeps the outputs of matrix products, convolutions and attention, and computes the rest
      again.
    - a number: a budget in bytes. The first passes measure the blocks while each is computed again. Then the plan that
      fits the budget with the least extra time is used, and `report` gets it as a table. For passes inside
      `Applied.measure` the budget covers everything that the pass holds beyond what was held before it; otherwise it
      covers the blocks alone.

    Several networks that train together, as in a GAN, share one budget. If `compile`, each block is compiled by
    `torch.compile` as a graph of its own. Names of parameters, state dicts and gradients stay the same. Raises
    RecipeError if there are no blocks, for an unknown policy, and for numbers below 1.
    """
    for name, found in (("policy", policy), ("every", every)):
        if isinstance(found, int) and (isinstance(found, bool) or found < 1):
            raise RecipeError(f"training.activation: found {found!r} as {name}, expected a policy or a positive number")
    models = [model] if isinstance(model, nn.Module) else list(model)
    blocks = list(dict.fromkeys(block for one in models for block in blocks_of(one)))
    if not blocks and policy != "none":
        raise RecipeError(
            f"training.activation: found {policy!r} for a model without blocks, expected items of an nn.ModuleList "
            "or an attribute `blocks`"
        )
    for block in blocks:
        restore(block)
    if compile and not blocks:
        for one in models:
            one.compile()
    if isinstance(policy, int):
        budget = BudgetChain(policy, report)
        attach(blocks, budget, compile)
        return budget
    plans = {
        "full": each(len(blocks)),
        "every_k": segments_of(len(blocks), every),
        "sqrt": square_root(len(blocks)),
    }
    if policy in plans:
        chain = Chain(plans[policy])
        attach(blocks, chain, compile)
        return chain
    if policy not in ("none", "selective"):
        known = ", ".join(("none", *plans, "selective"))
        raise RecipeError(f"training.activation: found {policy!r}, expected one of {known}")
    for block in blocks:
        if policy == "selective":
            attach_selective(block)
        if compile:
            extend(block, Compiled, _compiled=compile_forward(block))
    return Applied()
