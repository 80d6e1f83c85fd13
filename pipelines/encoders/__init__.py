"""Frozen encoders in front of a network: the interface between a denoiser and its autoencoder."""

from typing import Protocol

from torch import Tensor


class ImageEncoder(Protocol):
    """A frozen autoencoder, as far as denoising in its latents needs it. `headrace.models.Autoencoder` is one."""

    def encode(self, image_NCHW: Tensor) -> Tensor:
        """The latent of each image in [−1, 1], of mean 0 and variance 1."""
        ...

    def decode(self, latent_NCHW: Tensor) -> Tensor:
        """The image of each latent."""
        ...


__all__ = ["ImageEncoder"]
