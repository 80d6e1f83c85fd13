"""The second stage of discrete models: the likelihood of the codes that a trained autoencoder gives images."""

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
    """−log p(codes | conditioning) in nats, the mean over codes.

    A batch holds `image` (float32 [N, C, H, W] in [−1, 1]) and, if the prior is conditioned on them, `label` (int64
    [N]) or `tokens` (int64 [N, L]) and `tokens_mask` (bool [N, L]). A share `drop` of the samples loses its
    conditioning. The figure `bits` is the loss of the other samples, in bits per code.
    """

    def __init__(self, recipe: AutoregressivePrior, model: Prior, autoencoder: Autoencoder) -> None:
        """`autoencoder` is frozen, and its latents are codes."""
        self.recipe, self.model, self.autoencoder = recipe, model, autoencoder

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The prior."""
        return {"model": self.model}

    def phases(self) -> Sequence[Phase]:
        """The only phase, `predict`."""
        return [Phase("predict", ("model",), self.loss)]

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss, and figures."""
        dropped_N = draws.uniform("drop condition") < self.recipe.drop
        nats_N = code_nats(self.model, self.autoencoder, batch["image"], conditioning_of(batch).dropped(dropped_N))
        kept_N = (~dropped_N).float()
        bits = (nats_N.detach() * kept_N).sum() / kept_N.sum().clamp(min=1) / math.log(2)
        return nats_N.mean(), {"bits": bits}


def code_nats(model: Prior, autoencoder: Autoencoder, image_NCHW: Tensor, conditioning: Conditioning) -> Tensor:
    """−log p of each image's codes given its conditioning, in nats, the mean over its codes: [N]."""
    with torch.no_grad(), torch.autocast(image_NCHW.device.type, enabled=False):
        codes_NL = autoencoder.codes(image_NCHW).flatten(1)
    logits_NLK = model(codes_NL[:, :-1], conditioning).float()
    return F.cross_entropy(logits_NLK.transpose(1, 2), codes_NL, reduction="none").mean(1)


def conditioning_of(batch: Batch) -> Conditioning:
    """The conditioning in a batch; `NO_LABEL` if it has no labels."""
    label_N = batch["label"] if "label" in batch else torch.full_like(batch["image"][:, 0, 0, 0], NO_LABEL).long()
    caption = Caption(batch["tokens"], batch["tokens_mask"]) if "tokens" in batch else None
    return Conditioning(label_N, caption)
