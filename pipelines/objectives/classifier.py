"""Classifying noisy images: what classifier guidance needs."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.models import schedule
from headrace.models.classifier import Classifier
from headrace.objectives.objective import Batch, Phase
from headrace.recipe.classifier import Classification


class NoisyClassification:
    """The cross-entropy of labels over noise levels (Dhariwal & Nichol 2021, section 4.1).

    A batch holds `image` (float32 [N, C, H, W] in [−1, 1]) and `label` (int64 [N], from 0 to below the network's
    `labels`, checked where labels are read). A share `clean` of the samples gets no noise.
    """

    def __init__(self, recipe: Classification, model: Classifier) -> None:
        self.recipe, self.model = recipe, model
        self.schedule = schedule.build(recipe.schedule)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The classifier."""
        return {"model": self.model}

    def phases(self) -> Sequence[Phase]:
        """The only phase, `classify`."""
        return [Phase("classify", ("model",), self.loss)]

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss, and the accuracy on all samples and on those without noise."""
        image_NCHW, label_N = batch["image"], batch["label"]
        self.schedule.to(image_NCHW.device)
        sigma_N = self.schedule.quantile(draws.uniform("noise level")).float()
        clean_N = draws.uniform("clean") < self.recipe.clean
        sigma_N = torch.where(clean_N, 0.0, sigma_N)
        noise_NCHW = draws.normal("noise", *image_NCHW.shape[1:])
        logits_NK = self.model(image_NCHW + sigma_N[:, None, None, None] * noise_NCHW, sigma_N).float()
        right_N = logits_NK.detach().argmax(1) == label_N
        clean_right = (right_N & clean_N).sum() / clean_N.sum().clamp(min=1)
        figures = {"accuracy": right_N.float().mean(), "accuracy_clean": clean_right}
        return F.cross_entropy(logits_NK, label_N), figures
