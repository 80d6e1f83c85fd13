"""How a sample is drawn: one function for each sampler, guidance as wrappers of the denoiser.

`sample_x(denoise, x, sigmas, *, generator, …)`: `x` is noise of deviation sigmas[0] in the coordinates x = x₀ + σ·n,
`sigmas` descend, and a last level of 0 asks for a clean sample.
"""

from pipelines.samplers.ddim import sample_ddim, sample_ddpm
from pipelines.samplers.denoise import SAMPLERS, Denoise, SampleNoise, sampler
from pipelines.samplers.export import save_scheduler
from pipelines.samplers.guidance import classifier_free, classifier_guided
from pipelines.samplers.heun import sample_heun
from pipelines.samplers.langevin import sample_langevin, sample_predictor_corrector
from pipelines.samplers.latent import interpolate, invert_ddim
from pipelines.samplers.likelihood import bits_per_dimension, log_likelihood
from pipelines.samplers.multistep import sample_dpmpp_2m, sample_dpmpp_2m_sde, sample_unipc
from pipelines.samplers.named import named, sample, sample_levels
from pipelines.samplers.steps import karras, levels

__all__ = [
    "SAMPLERS",
    "Denoise",
    "SampleNoise",
    "bits_per_dimension",
    "classifier_free",
    "classifier_guided",
    "interpolate",
    "invert_ddim",
    "karras",
    "levels",
    "log_likelihood",
    "named",
    "sample",
    "sample_ddim",
    "sample_ddpm",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
    "sample_heun",
    "sample_langevin",
    "sample_levels",
    "sample_predictor_corrector",
    "sample_unipc",
    "sampler",
    "save_scheduler",
]
