"""The second stage: the likelihood of the codes that a trained autoencoder gives images."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.models import Autoencoder, Caption, Conditioning
from headrace.models.conditions import NO_LABEL
from headrace.models.prior import Prior
from headrace.objectives.objective import Batch, Phase
from headrace.recipe.discrete import AutoregressivePrior


class CodeLikelihood:
    """−log p(codes | what is told), the mean over codes, in nats.

    A batch holds `image` (float32 [N, C, H, W] in [−1, 1]) and, where the prior is told of them, `label` (int64 [N]) or
    `tokens` (int64 [N, L]) and `tokens_mask` (bool [N, L]); a share `drop` of the samples is told nothing. The figure
    `bits` is the same in bits per code, of the samples that were told.
    """

    def __init__(self, recipe: AutoregressivePrior, model: Prior, autoencoder: Autoencoder) -> None:
        """`autoencoder` is frozen and has codes."""
        self.recipe, self.model, self.autoencoder = recipe, model, autoencoder

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The prior."""
        return {"model": self.model}

    def phases(self) -> Sequence[Phase]:
        """One phase."""
        return [Phase("predict", ("model",), self.loss)]

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss, and figures."""
        dropped_N = draws.uniform("drop condition") < self.recipe.drop
        nats_N = code_nats(self.model, self.autoencoder, batch["image"], conditioning_of(batch).dropped(dropped_N))
        kept_N = (~dropped_N).float()
        bits = (nats_N.detach() * kept_N).sum() / kept_N.sum().clamp(min=1) / math.log(2)
        return nats_N.mean(), {"bits": bits}


def code_nats(model: Prior, autoencoder: Autoencoder, image_NCHW: Tensor, conditioning: Conditioning) -> Tensor:
    """−log p of each image's codes, given what is told of it, the mean over its codes: [N]."""
    with torch.no_grad(), torch.autocast(image_NCHW.device.type, enabled=False):
        codes_NL = autoencoder.codes(image_NCHW).flatten(1)
    logits_NLK = model(codes_NL[:, :-1], conditioning).float()
    return F.cross_entropy(logits_NLK.transpose(1, 2), codes_NL, reduction="none").mean(1)


def conditioning_of(batch: Batch) -> Conditioning:
    """What a batch tells of its images."""
    label_N = batch["label"] if "label" in batch else torch.full_like(batch["image"][:, 0, 0, 0], NO_LABEL).long()
    caption = Caption(batch["tokens"], batch["tokens_mask"]) if "tokens" in batch else None
    return Conditioning(label_N, caption)
