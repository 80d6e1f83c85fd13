"""Adversarial training of a generator and a discriminator: GAN, relativistic GAN with R1 and R2, Wasserstein GAN.

`Adversarial` is the objective. `PAIRINGS` holds its losses by name, each a pair of one for the discriminator and one
for the generator.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.models.conditions import Conditioning
from headrace.models.gan import normalise_spectra, step_spectra
from headrace.models.text import Caption
from headrace.objectives.objective import Batch, Phase
from headrace.objectives.smoothness import clip_weights, gamma_at, gradient_norm_between, squared_gradient
from headrace.recipe.gan import Adversarial as AdversarialRecipe

WON = 0.01
"""below this loss, in nats, the discriminator is never deceived, and the generator learns nothing from it"""


PATIENCE = 100
"""after this many rounds in a row won outright, a warning is given"""


class Adversarial:
    """Trains the discriminator in every step, and the generator in every `rounds`-th step.

    A batch holds `image` (float32 [N, C, H, W] in [−1, 1], or points [N, D]) and, where the networks are conditioned,
    `label` (int64 [N]) or `tokens` (int64 [N, L]) and `tokens_mask` (bool [N, L]).

    Figures of the discriminator: `adversarial` is its loss without the penalty; `real` and `fake` are its mean outputs;
    with the Wasserstein loss `wasserstein` is its estimate of the distance, otherwise `rounds_won` counts the rounds in
    a row that it has won outright (an adversarial loss below 0.01).
    """

    def __init__(self, recipe: AdversarialRecipe, generator: nn.Module, discriminator: nn.Module) -> None:
        """`generator(z, condition)` has an attribute `latent`, the size of z; `discriminator(x, condition)` -> [N]."""
        self.recipe, self.generator, self.discriminator = recipe, generator, discriminator
        self.latent = int(generator.latent)  # type: ignore[arg-type]
        self.pairing = PAIRINGS[recipe.loss]
        if recipe.regulariser == "spectral":
            normalise_spectra(discriminator)
        discriminator.register_buffer("rounds_won", torch.zeros((), dtype=torch.int64))

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The two networks."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def phases(self) -> Sequence[Phase]:
        """The discriminator's phase, then the generator's."""
        after = {"clip": self._clip, "spectral": self._step_spectra}.get(self.recipe.regulariser)
        return [
            Phase("discriminator", ("discriminator",), self.discriminator_loss, after=after, warn=self._warn),
            Phase("generator", ("generator",), self.generator_loss, every=self.recipe.rounds),
        ]

    def discriminator_loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's mean loss with its penalty, and figures."""
        real, condition = batch["image"], self.condition(batch)
        with torch.no_grad():
            fake = self.generator(draws.normal("latent, discriminator", self.latent), condition)
        if self.recipe.regulariser == "r1_r2":
            real, fake = real.detach().requires_grad_(), fake.requires_grad_()
        real_N, fake_N = self.discriminator(real, condition), self.discriminator(fake, condition)
        adversarial = self.pairing.discriminator(real_N, fake_N).mean()
        figures = {"adversarial": adversarial, "real": real_N.mean(), "fake": fake_N.mean()}
        slope: Tensor | float = 1.0
        loss = adversarial
        if self.recipe.regulariser == "r1_r2":
            penalty, figures["r1"], figures["r2"] = self._r1_r2(real, real_N, fake, fake_N, draws)
            loss = adversarial + penalty
        elif self.recipe.regulariser == "gradient_penalty":
            penalty, slope = self._gradient_penalty(real, fake, condition, draws)
            loss, figures["gradient_norm"] = adversarial + penalty, slope
        figures |= (
            self._wasserstein(-adversarial, slope)
            if not self.pairing.bounded
            else self._rounds_won(adversarial.detach())
        )
        return loss, {name: figure.detach() for name, figure in figures.items()}

    def generator_loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's mean loss."""
        condition = self.condition(batch)
        fake = self.generator(draws.normal("latent, generator", self.latent), condition)
        fake_N = self.discriminator(fake, condition)
        real_N = self.discriminator(batch["image"], condition) if self.pairing.paired else fake_N
        return self.pairing.generator(real_N, fake_N).mean(), {}

    def condition(self, batch: Batch) -> Conditioning:
        """The conditioning of each image in the batch."""
        caption = Caption(batch["tokens"], batch["tokens_mask"]) if "tokens" in batch else None
        return Conditioning(batch.get("label"), caption)

    def _r1_r2(
        self, real: Tensor, real_N: Tensor, fake: Tensor, fake_N: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor, Tensor]:
        """γ/2·(R1 + R2) and both: squared gradients at real and generated images (Huang et al. 2024, section 3.2)."""
        r1_N, r2_N = squared_gradient(real_N + fake_N, real, fake)
        end = self.recipe.gamma if self.recipe.gamma_final is None else self.recipe.gamma_final
        gamma_N = gamma_at(draws.samples, self.recipe.gamma, end, self.recipe.burn_in)
        return (gamma_N / 2 * (r1_N + r2_N)).mean(), r1_N.mean(), r2_N.mean()

    def _gradient_penalty(
        self, real: Tensor, fake: Tensor, condition: Conditioning, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """λ·(‖∇D(x̂)‖ − 1)² and the mean of ‖∇D(x̂)‖ (Gulrajani et al. 2017, equation 3)."""
        share_N = draws.uniform("between")
        norm_N = gradient_norm_between(lambda x: self.discriminator(x, condition), real, fake, share_N)
        return self.recipe.penalty * (norm_N - 1).square().mean(), norm_N.mean()

    def _wasserstein(self, difference: Tensor, slope: Tensor | float) -> dict[str, Tensor]:
        """The estimate of W₁: E D(real) − E D(fake), over the critic's slope.

        At the optimum of a soft penalty the critic's slope exceeds 1 by W₁/2λ, which the division corrects. With
        clipping and spectral norms the slope is unknown, so the estimate has an unknown scale.
        """
        return {"wasserstein": difference / slope}

    def _rounds_won(self, adversarial: Tensor) -> dict[str, Tensor]:
        counted: Tensor = self.discriminator.rounds_won  # type: ignore[assignment]
        if self.discriminator.training:
            counted.copy_((counted + 1) * (adversarial < WON))
        return {"rounds_won": counted.float()}

    def _warn(self, figures: Mapping[str, float]) -> str | None:
        won = figures.get("discriminator/rounds_won", 0.0)
        if not won or won % PATIENCE:
            return None
        return (
            f"the discriminator has won {won:.0f} rounds in a row outright (loss below {WON}), so the generator learns "
            "nothing; a regulariser in `objective`, or a lower training.networks.discriminator.learning_rate, may help"
        )

    def _clip(self) -> None:
        named = self.discriminator.named_parameters()
        clip_weights((p for name, p in named if "embedding" not in name.split(".")), self.recipe.clip)

    def _step_spectra(self) -> None:
        step_spectra(self.discriminator)


Outputs = Callable[[Tensor, Tensor], Tensor]
"""(D of real images [N], D of generated ones [N]) -> loss [N]"""


@dataclass(frozen=True)
class Pairing:
    """The two losses of an adversarial pair."""

    discriminator: Outputs
    generator: Outputs
    bounded: bool = True
    """whether the discriminator's loss has the lower bound 0, reached when no generated image deceives it"""
    paired: bool = False
    """whether the generator's loss depends on real images"""


def _log_odds(real_N: Tensor, fake_N: Tensor) -> Tensor:
    return F.softplus(-real_N) + F.softplus(fake_N)


PAIRINGS: Mapping[str, Pairing] = {
    # Goodfellow et al. 2014, equation 1
    "minimax": Pairing(_log_odds, lambda real_N, fake_N: -F.softplus(fake_N)),
    # Goodfellow et al. 2014, section 3: the generator maximises log D
    "non_saturating": Pairing(_log_odds, lambda real_N, fake_N: F.softplus(-fake_N)),
    # Jolicoeur-Martineau 2019, equations 4 and 5; Huang et al. 2024, equation 2
    "relativistic": Pairing(
        lambda real_N, fake_N: F.softplus(fake_N - real_N),
        lambda real_N, fake_N: F.softplus(real_N - fake_N),
        paired=True,
    ),
    # Arjovsky, Chintala & Bottou 2017, algorithm 1
    "wasserstein": Pairing(lambda real_N, fake_N: fake_N - real_N, lambda real_N, fake_N: -fake_N, bounded=False),
}
