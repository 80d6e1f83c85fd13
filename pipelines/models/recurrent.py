"""Recurrent networks (Hochreiter & Schmidhuber 1997; Cho et al. 2014), as baselines for the Transformer."""

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

CPU_HAS_BF16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""whether this CPU has bf16 instructions: oneDNN's LSTM needs them in bf16, and autocast does not check"""


class Memory:
    """The state of each layer after the positions so far."""

    def __init__(self, layers: int) -> None:
        self.states: list[Tensor | tuple[Tensor, Tensor] | None] = [None] * layers


class RecurrentLayer(nn.Module):
    """One LSTM or GRU layer with normalisation before it and a shortcut around it, like a Transformer block."""

    def __init__(self, width: int, cell: Literal["lstm", "gru"]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.cell = (nn.LSTM if cell == "lstm" else nn.GRU)(width, width, batch_first=True)

    def forward(self, x_NLC: Tensor, memory: Memory | None = None, number: int = 0) -> Tensor:
        """Returns [N, L, C]. Continues from the state of layer `number` in `memory`, and updates that state."""
        state = None if memory is None else memory.states[number]
        x_norm_NLC = self.norm(x_NLC)
        fp32 = x_NLC.device.type == "cpu" and not CPU_HAS_BF16 and torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False) if fp32 else nullcontext():
            h_NLC, state = self.cell(x_norm_NLC.float() if fp32 else x_norm_NLC, state)
        if memory is not None:
            memory.states[number] = state
        return x_NLC + h_NLC


class Recurrent(nn.Module):
    """Layers and a final normalisation over vectors of `width` channels. Causal; takes sequences of any length."""

    def __init__(self, width: int, layers: int, cell: Literal["lstm", "gru"]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RecurrentLayer(width, cell) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_NLC: Tensor, past: Memory | None = None) -> Tensor:
        """Returns [N, L, C]. With `past`, `x` holds the positions that follow it, and `past` is updated."""
        for number, block in enumerate(self.blocks):
            x_NLC = block(x_NLC, past, number)
        return self.norm(x_NLC)

    def past(self, most: int | None = None) -> Memory:
        """An empty memory. `most` is unused: only a Transformer has to reserve room."""
        return Memory(len(self.blocks))
