"""What is minimised: one module per family of models."""

from headrace.objectives.autoencoder import Reconstruction
from headrace.objectives.classifier import NoisyClassification
from headrace.objectives.control import ControlDiffusion
from headrace.objectives.diffusion import Diffusion
from headrace.objectives.gan import Adversarial
from headrace.objectives.objective import Batch, Loss, Objective, Phase
from headrace.objectives.prior import CodeLikelihood

__all__ = [
    "Adversarial",
    "Batch",
    "CodeLikelihood",
    "ControlDiffusion",
    "Diffusion",
    "Loss",
    "NoisyClassification",
    "Objective",
    "Phase",
    "Reconstruction",
]
