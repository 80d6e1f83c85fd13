"""Activation (gradient) checkpointing: what a backward pass keeps and what it computes again.

`apply(model, policy)` works on any module whose blocks are items of `nn.ModuleList`s; gradients stay the same bit for
bit.
"""

from pipelines.training.activation.blocks import blocks_of
from pipelines.training.activation.chain import Applied
from pipelines.training.activation.plan import Plan, Segment
from pipelines.training.activation.policies import apply

__all__ = ["Applied", "Plan", "Segment", "apply", "blocks_of"]
