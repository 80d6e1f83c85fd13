"""How a sample is drawn: one function per sampler, and guidance as wrappers of the denoiser.

In `sample_x(denoise, x, sigmas, *, generator, …)`, `x` is noise of deviation sigmas[0] in the coordinates x = x₀ + σ·n,
and `sigmas` descend; end them with 0 to get a clean sample. docs/samplers.md has examples.
"""

from headrace.samplers.denoise import SAMPLERS, Denoise, SampleNoise, sampler
from headrace.samplers.export import save_scheduler
from headrace.samplers.guidance import classifier_free, classifier_guided
from headrace.samplers.inversion import bits_per_dimension, interpolate, invert_ddim, log_likelihood
from headrace.samplers.named import named, sample, sample_levels
from headrace.samplers.solvers import (
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_heun,
    sample_langevin,
    sample_predictor_corrector,
    sample_unipc,
)
from headrace.samplers.steps import karras, levels

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
