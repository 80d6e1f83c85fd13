"""Autoencoders: a reconstruction loss on pixels and features, a bottleneck's penalty, and an adversary that joins late.

With the bottleneck `kl` this trains a variational autoencoder (Kingma & Welling 2014), with `vq` a VQ-VAE (van den Oord
et al. 2017), and with a discriminator a VQGAN (Esser et al. 2021).
"""

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.models.autoencoder import Autoencoder
from headrace.models.bottleneck import Normal, perplexity
from headrace.models.patchgan import PatchDiscriminator
from headrace.models.perceptual import Perceptual
from headrace.objectives.adaptive import WithGradient, adaptive_weight, gradient_at
from headrace.objectives.objective import Batch, Phase
from headrace.recipe.discrete import Autoencoding

PIXELS = {"l1": F.l1_loss, "l2": F.mse_loss}
WON = 0.01
"""below this hinge loss the discriminator is never fooled, and the decoder learns nothing from it"""
PATIENCE = 100
"""after this many rounds in a row, won outright or stuck, a warning is given"""
COLLAPSED = 0.5
"""the codebook counts as collapsed below this share of the most codes that the fixed images ever used"""


class Reconstruction:
    """Phase one trains the autoencoder. Phase two, which starts later, trains the discriminator on its reconstructions.

    A batch holds `image`: float32 [N, C, H, W] in [−1, 1].

    Figures of phase one: `pixels`, `perceptual`, the bottleneck's (`kl`; `commitment`, `perplexity`) and, with an
    adversary, `fooling` and the weight `adaptive`. Every `monitor_every` steps the fixed images give `fixed_error` and,
    with codes, `fixed_perplexity`. Figures of phase two: `real` and `fake`, the shares of patches classified correctly;
    `rounds_won`, the rounds in a row that the discriminator won outright; `rounds_stuck`, the rounds in a row in which
    it could not tell real from fake.
    """

    def __init__(
        self,
        recipe: Autoencoding,
        model: Autoencoder,
        *,
        perceptual: Perceptual | None = None,
        discriminator: PatchDiscriminator | None = None,
        fixed_NCHW: Tensor | None = None,
    ) -> None:
        """Give `perceptual` and `discriminator` if the recipe has them. `fixed_NCHW` are monitored."""
        self.recipe, self.model = recipe, model
        self.perceptual, self.discriminator, self.fixed_NCHW = perceptual, discriminator, fixed_NCHW
        self._painted: WeakKeyDictionary[Draws, Tensor] = WeakKeyDictionary()
        self._most_used = 0.0
        if discriminator is not None:
            for name in ("rounds_won", "rounds_stuck"):
                discriminator.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The autoencoder and, if there is one, the discriminator."""
        if self.discriminator is None:
            return {"model": self.model}
        return {"model": self.model, "discriminator": self.discriminator}

    def phases(self) -> Sequence[Phase]:
        """One phase, or two that share a forward pass of the autoencoder."""
        phases = [Phase("reconstruct", ("model",), self.reconstruct, after=self.model.update, warn=self._warn_of_codes)]
        if self.recipe.discriminator is not None:
            first = self.recipe.discriminator.start + 1
            phases.append(
                Phase("discriminate", ("discriminator",), self.discriminate, first=first, warn=self._warn_of_adversary)
            )
        return phases

    def reconstruct(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The autoencoder's mean loss, and figures. Outside of training the adversary does not contribute."""
        image_NCHW = batch["image"]
        through = self.model.compress(image_NCHW, draws)
        features_NCHW = self.model.decoder.features(through.z_NCHW)
        painted_NCHW = self.model.decoder.paint(features_NCHW)
        figures = {**through.figures, **{name: value.detach() for name, value in through.penalties.items()}}
        adversary = self.recipe.discriminator
        if adversary is not None and draws.step > adversary.start and self.model.training:
            self._painted[draws] = painted_NCHW.detach()
            loss = self._fooling(painted_NCHW, features_NCHW, image_NCHW, figures)
        else:
            loss = self._distance(painted_NCHW, image_NCHW, figures)
        weights = {"kl": self.recipe.kl / image_NCHW[0].numel(), "commitment": self.recipe.commitment, "codebook": 1.0}
        for name, penalty in through.penalties.items():
            loss = loss + weights[name] * penalty
        if self.fixed_NCHW is not None and draws.step % self.recipe.monitor_every == 0 and self.model.training:
            figures |= self._look(self.fixed_NCHW)
        return loss, figures

    def discriminate(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's mean hinge loss (Lim & Ye 2017) on the reconstructions of phase one, and figures."""
        assert self.discriminator is not None
        painted_NCHW = self._painted.pop(draws, None)
        if painted_NCHW is None:  # outside of training there was no phase one
            with torch.no_grad():
                painted_NCHW = self.model(batch["image"])
        real, fake = self.discriminator(batch["image"]).float(), self.discriminator(painted_NCHW).float()
        loss = (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
        self._count("rounds_won", loss.detach() < WON)
        # If all outputs have one sign, nothing is told apart: the loss stays at 1 and its gradient carries no signal.
        self._count("rounds_stuck", (real.detach().mean() - fake.detach().mean()).abs() < WON)
        figures = {"real": (real > 0).float().mean(), "fake": (fake < 0).float().mean()}
        figures |= {name: getattr(self.discriminator, name).float() for name in ("rounds_won", "rounds_stuck")}
        return loss, figures

    def _distance(self, painted_NCHW: Tensor, image_NCHW: Tensor, figures: dict[str, Tensor]) -> Tensor:
        """The mean distance of reconstructions from images; its parts are added to `figures`."""
        loss = PIXELS[self.recipe.reconstruction](painted_NCHW.float(), image_NCHW)
        figures["pixels"] = loss.detach()
        if self.perceptual is not None and self.recipe.perceptual is not None:
            perceptual = self.perceptual(painted_NCHW, image_NCHW).mean()
            figures["perceptual"] = perceptual.detach()
            loss = loss + self.recipe.perceptual.weight * perceptual
        return loss

    def _fooling(
        self, painted_NCHW: Tensor, features_NCHW: Tensor, image_NCHW: Tensor, figures: dict[str, Tensor]
    ) -> Tensor:
        """The distance plus the adversarial loss, balanced by the gradients at the last layer."""
        adversary, discriminator = self.recipe.discriminator, self.discriminator
        assert adversary is not None
        assert discriminator is not None
        distance, distance_gradient = gradient_at(lambda x: self._distance(x, image_NCHW, figures), painted_NCHW)
        fooling, fooling_gradient = gradient_at(lambda x: -discriminator(x).float().mean(), painted_NCHW)
        decoder = self.model.decoder
        weight = adaptive_weight(
            decoder.paint, decoder.last.weight, features_NCHW, distance_gradient, fooling_gradient, adversary.largest
        )
        figures |= {"fooling": fooling, "adaptive": weight}
        share = adversary.weight * weight
        return WithGradient.apply(
            painted_NCHW, distance_gradient + share * fooling_gradient, distance + share * fooling
        )

    @torch.no_grad()
    def _look(self, fixed_NCHW: Tensor) -> dict[str, Tensor]:
        """The error of the fixed images' reconstructions, and the perplexity of their codes."""
        model = self.model
        figures = {"fixed_error": F.l1_loss(model(fixed_NCHW).float(), fixed_NCHW)}
        if not isinstance(model.bottleneck, Normal):
            figures["fixed_perplexity"] = perplexity(model.codes(fixed_NCHW), model.bottleneck.size)
        return figures

    def _count(self, name: str, happened: Tensor) -> None:
        """Count rounds in a row in a buffer of the discriminator, so that checkpoints contain the count."""
        assert self.discriminator is not None
        rounds: Tensor = getattr(self.discriminator, name)
        if self.discriminator.training:
            rounds.copy_(torch.where(happened, rounds + 1, 0))

    def _warn_of_codes(self, figures: Mapping[str, float]) -> str | None:
        used = next((value for name, value in figures.items() if name.endswith("fixed_perplexity")), None)
        if used is None:
            return None
        self._most_used = max(self._most_used, used)
        if used < COLLAPSED * self._most_used:
            return f"the fixed images use {used:.0f} codes, once {self._most_used:.0f}: the codebook collapses"
        return None

    def _warn_of_adversary(self, figures: Mapping[str, float]) -> str | None:
        if figures.get("discriminate/rounds_won") == PATIENCE:
            return f"the discriminator has won outright for {PATIENCE} rounds: the decoder learns nothing from it"
        if figures.get("discriminate/rounds_stuck") == PATIENCE:
            return f"the discriminator has not told real from fake for {PATIENCE} rounds: its loss is stuck"
        return None
