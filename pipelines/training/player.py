"""A player of the training game: a module with its own optimizer and averaged weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.recipe.training import Training
from pipelines.training.ema import Ema


class Player:
    """A module that is trained, AdamW over its trainable parameters, and its EMA.

    AdamW (Loshchilov & Hutter 2019, algorithm 2) decays matrices and kernels only: biases, gains and other vectors are
    left alone.
    """

    def __init__(self, name: str, module: nn.Module, training: Training) -> None:
        self.name, self.module = name, module
        self.ema = Ema(module, training.ema)
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        matrices = [p for p in self.parameters.values() if p.ndim > 1]
        vectors = [p for p in self.parameters.values() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=training.learning_rate,
            betas=(training.beta1, training.beta2),
            fused=True,
        )

    def require_grad(self, required: bool) -> None:
        """Turn gradients of the trainable parameters on or off."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(required)

    def step(self, learning_rate: float, clip: float) -> Tensor:
        """Clip the gradients, step, and forget them; returns the norm before clipping (a scalar on the device)."""
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Everything that the next step depends on, by group: weights, averages, optimizer; copies on the CPU."""
        moments = {
            f"{name}/{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        groups: dict[str, Mapping[str, Tensor]] = {
            self.name: self.module.state_dict(),
            f"{self.name}.ema": self.ema.state_dict(),
            f"{self.name}.optimizer": moments,
        }
        return {group: _copies(tensors) for group, tensors in groups.items()}

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take back what `tensors` gave."""
        self.module.load_state_dict(tensors[self.name])
        self.ema.load_state_dict(tensors[f"{self.name}.ema"])
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        ordered = [names[id(p)] for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Any]] = {}
        for key, value in tensors[f"{self.name}.optimizer"].items():
            name, moment = key.rsplit("/", 1)
            state.setdefault(ordered.index(name), {})[moment] = _laid_out_as(self.parameters[name], value)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """`moment` with the strides of its parameter (say channels_last): fused AdamW walks their memory side by side."""
    return torch.empty_like(parameter).copy_(moment) if moment.ndim == parameter.ndim else moment


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that share no memory; from a GPU by way of pinned memory, without waiting for each."""
    copies = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        for name, tensor in tensors.items()
    }
    for name, copy in copies.items():
        copy.copy_(tensors[name].detach(), non_blocking=True)
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()
    return copies
