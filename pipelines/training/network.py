"""A network that is trained: a module with its own optimizer and averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headrace.errors import RecipeError
from headrace.ranks.pieces import Staging, piece, whole
from headrace.recipe.training import NetworkSettings, Training
from headrace.runs.checkpoints import Checkpoint
from headrace.training.ema import Ema

Norm = Callable[[list[Tensor]], Tensor]


class Network:
    """A module to train, AdamW over its trainable parameters, and its EMA.

    AdamW (Loshchilov & Hutter 2019, algorithm 2) decays matrices and kernels only, not biases, gains and other
    vectors. If weights are sharded over ranks, the optimizer and the averages work on this rank's pieces.
    """

    def __init__(self, name: str, module: nn.Module, training: Training) -> None:
        self.name, self.module = name, module
        settings = _settings(training, training.networks.get(name, NetworkSettings()))
        self._factor = settings.learning_rate / training.learning_rate
        everything = dict(module.named_parameters())
        self.ema = Ema(everything, settings.ema, settings.ema_width)
        self.parameters = {n: p for n, p in everything.items() if p.requires_grad}
        self._pieces = {n: _optimized(p) for n, p in self.parameters.items()}
        matrices = [self._pieces[n] for n, p in self.parameters.items() if p.ndim > 1]
        vectors = [self._pieces[n] for n, p in self.parameters.items() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=True,
        )

    def require_grad(self, required: bool) -> None:
        """Turn gradients of the trainable parameters on or off."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(required)

    def take_gradients(self) -> list[Tensor]:
        """Put this rank's pieces of the gradients where the optimizer reads them, and return them."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None and self._pieces[name] is not parameter:
                self._pieces[name].grad = piece(parameter.grad)
        return [own.grad for own in self._pieces.values() if own.grad is not None]

    def step(self, learning_rate: float, clip: float, norm: Tensor, finite: Tensor) -> None:
        """Clip the gradients, whose norm is `norm`, step, and drop them. Weights change only if `finite` is True.

        `learning_rate` is the rate of a network without settings of its own.
        """
        nn.utils.clip_grads_with_norm_(self._pieces.values(), clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * self._factor
        # Fused optimizers read these attributes, as torch.amp.GradScaler uses them: a skip needs no synchronisation.
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for parameter in self.parameters.values():
            parameter.grad = None

    def tensors(self, staging: Staging) -> dict[str, dict[str, Tensor]]:
        """Copies on the CPU of all tensors that the next step depends on, by group: weights, averages, optimizer."""
        weights = self.module.state_dict()
        averages = {**weights, **self.ema.averages}
        groups: dict[str, Mapping[str, Tensor]] = {
            self.name: weights,
            f"{self.name}.ema": averages,
            f"{self.name}.optimizer": self._moments(),
        }
        copies = {group: staging.copies(group, tensors) for group, tensors in groups.items()}
        ema, moments = copies[f"{self.name}.ema"], copies[f"{self.name}.optimizer"]
        for name in self.ema.averages:
            ema[name] = whole(ema[name], weights[name])
        for key, own in moments.items():
            if own.ndim:
                moments[key] = whole(own, self.parameters[key.rsplit("/", 1)[0]])
        return copies

    def load(self, checkpoint: Checkpoint) -> None:
        """Restore what `tensors` returned. Raises DataError if the checkpoint is of another architecture."""
        like = self.module.state_dict()
        weights = checkpoint.read(self.name, like)
        with torch.no_grad():
            for name, value in weights.items():
                piece(like[name]).copy_(value)
        averages = checkpoint.read(f"{self.name}.ema", like)
        self.ema.load({name: averages[name] for name in self.ema.averages})
        group = f"{self.name}.optimizer"
        scalar = torch.empty(())
        cut = {
            key: scalar if key.endswith("/step") else self.parameters[key.rsplit("/", 1)[0]]
            for key in checkpoint.names(group)
        }
        names = {id(own): name for name, own in self._pieces.items()}
        ordered = [names[id(p)] for group_ in self.optimizer.param_groups for p in group_["params"]]
        state: dict[int, dict[str, Any]] = {}
        for key, value in checkpoint.read(group, cut).items():
            name, moment = key.rsplit("/", 1)
            state.setdefault(ordered.index(name), {})[moment] = _laid_out_as(self._pieces[name], value)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, own in self._pieces.items()
            for key, value in self.optimizer.state.get(own, {}).items()
        }


def check_names(training: Training, networks: Mapping[str, object]) -> None:
    """Raise RecipeError if `training.networks` names a network that the objective does not have."""
    for name in training.networks:
        if name not in networks:
            raise RecipeError(f"training.networks: found {name!r}, expected one of {', '.join(networks)}")


def _settings(training: Training, own: NetworkSettings) -> Training:
    """`training` with one network's own settings in place of the common ones."""
    return training.model_copy(update={key: value for key, value in own if value is not None})


def _optimized(parameter: nn.Parameter) -> Tensor:
    """The tensor that the optimizer steps: the parameter, or this rank's piece of it."""
    own = piece(parameter)
    return parameter if type(parameter) is nn.Parameter else nn.Parameter(own, requires_grad=True)


def _laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """`moment` with the strides of its parameter (channels_last, for example), because fused AdamW needs the same."""
    return torch.empty_like(parameter).copy_(moment) if moment.ndim == parameter.ndim else moment
