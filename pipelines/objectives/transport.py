"""The Kantorovich–Rubinstein dual of W₁: training a 1-Lipschitz potential to separate two measures."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from headrace.draws import Draws
from headrace.objectives.objective import Batch, Phase


class KantorovichRubinstein:
    """W₁(μ, ν) = sup { E_μ f − E_ν f : f 1-Lipschitz } (Villani 2009, remark 6.5), by gradient ascent.

    The measures are two sets of points. Every step uses all points and ignores the batch.
    """

    def __init__(self, potential: nn.Module, x_ND: Tensor, y_MD: Tensor) -> None:
        """`potential(points [N, D])` -> [N] is 1-Lipschitz whatever its weights are; `x` are points of μ, `y` of ν."""
        self.potential, self.x_ND, self.y_MD = potential, x_ND, y_MD

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The potential."""
        return {"potential": self.potential}

    def phases(self) -> Sequence[Phase]:
        """The only phase, `climb`."""
        return [Phase("climb", ("potential",), self.loss)]

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """Minus the difference of means; the figure `wasserstein` is the difference."""
        difference = self.potential(self.x_ND).mean() - self.potential(self.y_MD).mean()
        return -difference, {"wasserstein": difference.detach()}
