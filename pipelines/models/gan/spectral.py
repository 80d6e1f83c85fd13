"""Spectral normalisation (Miyato et al. 2018, algorithm 1) with an explicit power iteration.

torch iterates in every forward pass in training mode. Two passes of one step then use different weights, and a block
that is recomputed for its backward pass (activation checkpointing) differs from the block that ran. Here a forward pass
only reads the estimate, and `step_spectra` improves it after each step of the optimizer.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

LAYERS = (nn.Linear, nn.Conv2d)


def normalise_spectra(network: nn.Module) -> None:
    """Divide the weight of each linear and convolutional layer of `network` by its largest singular value, in place.

    A kernel is treated as the matrix [out, in·height·width]. Embeddings and caption encoders are left unchanged,
    because no image goes through them. A layer that starts at zero has no direction to keep, so it gets random weights.
    """
    for name, layer in list(network.named_modules()):
        if isinstance(layer, LAYERS) and "embedding" not in name.split("."):
            if not layer.weight.any():
                nn.init.normal_(layer.weight)
            spectral_norm(layer)
    network.register_forward_pre_hook(_stop_iterating)


def _stop_iterating(network: nn.Module, inputs: Any) -> None:
    """Keep the next forward pass from iterating, which `network.train()` switches on."""
    for layer in _normalised(network):
        layer.parametrizations.weight.eval()


@torch.no_grad()
def step_spectra(network: nn.Module) -> None:
    """Run one power iteration in each normalised layer of `network`."""
    for layer in _normalised(network):
        estimate = layer.parametrizations.weight
        estimate.train()
        layer.weight  # noqa: B018  reading the weight runs an iteration
        estimate.eval()


def _normalised(network: nn.Module) -> Iterator[Any]:
    return (layer for layer in network.modules() if parametrize.is_parametrized(layer, "weight"))
