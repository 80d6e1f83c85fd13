"""Spectral normalisation (Miyato et al. 2018, algorithm 1) that runs its power iteration when it is told to.

torch iterates inside of every forward pass in training mode. Then two passes of one step see different weights, and a
block that is computed again for its backward pass (activation checkpointing) is not the block that ran. Here a forward
pass only reads the estimate, and `step_spectra` improves it once a round, after the optimizer's step.
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

    A kernel counts as the matrix [out, in·height·width]. Embeddings and caption encoders, which no image goes
    through, are left alone. A layer that starts at zero has no direction to keep and gets a random one.
    """
    for name, layer in list(network.named_modules()):
        if isinstance(layer, LAYERS) and "embedding" not in name.split("."):
            if not layer.weight.any():
                nn.init.normal_(layer.weight)
            spectral_norm(layer)
    network.register_forward_pre_hook(_hold)


def _hold(network: nn.Module, inputs: Any) -> None:
    """Before each forward pass: `network.train()` sets the layers to iterate in it."""
    for layer in _normalised(network):
        layer.parametrizations.weight.eval()


@torch.no_grad()
def step_spectra(network: nn.Module) -> None:
    """One power iteration in each normalised layer of `network`."""
    for layer in _normalised(network):
        estimate = layer.parametrizations.weight
        estimate.train()
        layer.weight  # noqa: B018  reading the weight iterates
        estimate.eval()


def _normalised(network: nn.Module) -> Iterator[Any]:
    return (layer for layer in network.modules() if parametrize.is_parametrized(layer, "weight"))
