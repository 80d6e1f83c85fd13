"""What a generator and a discriminator play for: losses of each sample, from the discriminator's outputs.

D is a logit, so log D of the papers is −softplus(−D) here and log(1 − D) is −softplus(D). Every loss is minimised.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

Outputs = Callable[[Tensor, Tensor], Tensor]
"""(D of real images [N], D of generated ones [N]) -> loss [N]"""


@dataclass(frozen=True)
class Pairing:
    """The two losses of a game."""

    discriminator: Outputs
    generator: Outputs
    bounded: bool = True
    """whether the discriminator's loss is at least 0, which it reaches when nothing generated deceives it"""
    paired: bool = False
    """whether the generator's loss looks at real images"""


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
