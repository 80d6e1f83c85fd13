"""How a sample is drawn: one function for each sampler, guidance as wrappers of the denoiser."""

from pipelines.samplers.ddim import sample_ddim, sample_ddpm
from pipelines.samplers.denoise import Denoise
from pipelines.samplers.guidance import classifier_free
from pipelines.samplers.steps import karras, levels

__all__ = ["Denoise", "classifier_free", "karras", "levels", "sample_ddim", "sample_ddpm"]
