"""What is minimised: one module for each family."""

from pipelines.objectives.autoencoder import Reconstruction
from pipelines.objectives.classifier import NoisyClassification
from pipelines.objectives.control import ControlDiffusion
from pipelines.objectives.diffusion import Diffusion
from pipelines.objectives.game import Batch, Loss, Move, Objective
from pipelines.objectives.gan import Adversarial
from pipelines.objectives.prior import CodeLikelihood

__all__ = [
    "Adversarial",
    "Batch",
    "CodeLikelihood",
    "ControlDiffusion",
    "Diffusion",
    "Loss",
    "Move",
    "NoisyClassification",
    "Objective",
    "Reconstruction",
]
