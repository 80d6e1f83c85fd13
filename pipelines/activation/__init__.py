"""Activation (gradient) checkpointing: what the forward pass keeps for the backward pass, and what is computed again.

`apply(model, policy)` works on any module whose blocks are items of `nn.ModuleList`s. Gradients stay the same bit for
bit.
"""

from headrace.activation.blocks import blocks_of
from headrace.activation.chain import Applied
from headrace.activation.plan import Plan, Segment
from headrace.activation.policies import apply

__all__ = ["Applied", "Plan", "Segment", "apply", "blocks_of"]
