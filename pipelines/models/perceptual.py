"""A distance between images in the features of a frozen network (Zhang et al. 2018)."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from headrace.errors import RecipeError

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
"""channels of each convolution; 0 is a pooling layer (Simonyan & Zisserman 2015, table 1, D)"""


class Perceptual(nn.Module):
    """Σ over layers of the mean over positions of ‖â − b̂‖², features scaled to length 1 (equation 1 with w = 1)."""

    def __init__(self, network: nn.Module, layers: Iterable[nn.Module]) -> None:
        """`network` takes images; the outputs of `layers`, which are parts of it, are the features."""
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self._features: list[Tensor] = []
        for layer in layers:
            layer.register_forward_hook(lambda module, inputs, output: self._features.append(output))

    def forward(self, a_NCHW: Tensor, b_NCHW: Tensor) -> Tensor:
        """The distance of each image in `a` from that in `b`: [N]."""
        with torch.no_grad():
            theirs = self._run(b_NCHW)
        return torch.stack([_distance(ours, other) for ours, other in zip(self._run(a_NCHW), theirs, strict=True)]).sum(
            0
        )

    def _run(self, image_NCHW: Tensor) -> list[Tensor]:
        self._features = []
        self.network(image_NCHW)
        features, self._features = self._features, []
        return features


def _distance(a_NCHW: Tensor, b_NCHW: Tensor) -> Tensor:
    a_NCHW, b_NCHW = (x.float() / (x.float().square().sum(1, keepdim=True) + 1e-10).sqrt() for x in (a_NCHW, b_NCHW))
    return (a_NCHW - b_NCHW).square().sum(1).mean((1, 2))


class VGG(nn.Module):
    """VGG16's convolutions, for grey or colour images in [−1, 1]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = 3
        for width in VGG16:
            if width:
                self.features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()])
                channels = width
            else:
                self.features.append(nn.MaxPool2d(2))
        # ImageNet's mean and deviation, for images in [−1, 1].
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    @classmethod
    def load(cls, path: str, key: str) -> "VGG":
        """Read the weights `features.<n>.weight` and `.bias` from the safetensors file at `path`; ignore the rest.

        Raises RecipeError, which names `key`, if the file is missing, or a weight is missing or of the wrong shape.
        """
        network = cls()
        try:
            found = load_file(Path(path))
        except Exception as error:  # the Rust library raises nothing more precise
            raise RecipeError(f"{key}: found {path}, expected a safetensors file: {error}") from None
        wanted = network.state_dict()
        for name, tensor in wanted.items():
            shape = list(found[name].shape) if name in found else "nothing"
            if shape != list(tensor.shape):
                raise RecipeError(f"{key}: found {shape} at {name} in {path}, expected {list(tensor.shape)}")
        network.load_state_dict({name: found[name] for name in wanted})
        return network

    def layers(self) -> list[nn.Module]:
        """The layers that LPIPS compares: the last ReLU before each pooling, and the last of all."""
        parts = list(self.features)
        return [
            part
            for part, after in zip(parts, [*parts[1:], nn.MaxPool2d(2)], strict=True)
            if isinstance(after, nn.MaxPool2d)
        ]

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """The last feature map."""
        return self.features((image_NCHW.expand(-1, 3, -1, -1) - self.mean) / self.deviation)
