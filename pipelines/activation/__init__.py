"""Activation (gradient) checkpointing: what a backward pass keeps and what it computes again.

`apply(model, policy)` works on any module whose blocks are items of `nn.ModuleList`s; gradients stay the same bit for
bit.
"""

from headrace.activation.blocks import blocks_of
from headrace.activation.chain import Applied
from headrace.activation.plan import Plan, Segment
from headrace.activation.policies import apply

__all__ = ["Applied", "Plan", "Segment", "apply", "blocks_of"]
