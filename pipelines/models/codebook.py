"""A codebook (van den Oord et al. 2017) learnt by moving averages or by gradients. Unused codes are reset.

A forward pass only records statistics. After the optimizer's step, `update` sums them over the parts of a batch and the
ranks. The codebook is therefore the same on all ranks, however the batch was split, and it is part of the state dict.
New codes are chosen by random numbers that belong to samples.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.models.bottleneck import Through, perplexity, straight_through
from headrace.ranks import collectives as ranks
from headrace.recipe.discrete import VQ


@dataclass(frozen=True)
class Usage:
    """The statistics of one part of a batch."""

    uses_K: Tensor
    """how often each code was the nearest"""
    sums_KC: Tensor
    """the sum of the vectors whose nearest code it was, for each code"""
    keys_R: Tensor
    """int64 keys of the candidates for new codes, ascending; no two vectors of the global batch share a key"""
    vectors_RC: Tensor
    """the candidates"""

    def joined(self, other: "Usage", most: int) -> "Usage":
        """The statistics of both parts together, with at most `most` candidates."""
        keys, vectors = torch.cat([self.keys_R, other.keys_R]), torch.cat([self.vectors_RC, other.vectors_RC])
        return Usage(self.uses_K + other.uses_K, self.sums_KC + other.sums_KC, *lowest(keys, vectors, most))

    def over_ranks(self, most: int) -> "Usage":
        """The statistics of all ranks together, with at most `most` candidates."""
        keys, vectors = ranks.joined(self.keys_R), ranks.joined(self.vectors_RC)
        return Usage(ranks.total(self.uses_K), ranks.total(self.sums_KC), *lowest(keys, vectors, most))


def lowest(keys_R: Tensor, vectors_RC: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The candidates with the lowest keys, at most `most`, in order of their keys."""
    keys_R, order_R = keys_R.sort()
    return keys_R[:most], vectors_RC[order_R[:most]]


class Codebook(nn.Module):
    """Each vector is replaced by the nearest of `codes` vectors."""

    uses_K: Tensor
    sums_KC: Tensor

    def __init__(self, recipe: VQ) -> None:
        super().__init__()
        self.recipe, self.size = recipe, recipe.codes
        self.width = self.width_in = recipe.channels
        vectors_KC = self._scaled(torch.randn(recipe.codes, recipe.channels))
        if recipe.update == "gradient":
            self.vectors_KC = nn.Parameter(vectors_KC)
        else:
            self.register_buffer("vectors_KC", vectors_KC)
            self.register_buffer("sums_KC", torch.zeros_like(vectors_KC))
        self.register_buffer("uses_K", torch.zeros(recipe.codes))
        self._usage: Usage | None = None

    def forward(self, h_NCHW: Tensor, draws: Draws) -> Through:
        """The penalties `commitment` and, with gradients, `codebook` are means over values (equation 3).

        The figure `perplexity` is that of these samples' codes.
        """
        with torch.autocast(h_NCHW.device.type, enabled=False):
            latent_NCHW = self.latent(h_NCHW)
            codes_NHW = self.codes(latent_NCHW)
            quantised_NCHW = self.embed(codes_NHW)
            penalties = {"commitment": F.mse_loss(latent_NCHW, quantised_NCHW.detach())}
            if self.recipe.update == "gradient":
                penalties["codebook"] = F.mse_loss(quantised_NCHW, latent_NCHW.detach())
            if self.training:
                self._note(latent_NCHW.detach(), codes_NHW, draws)
            z_NCHW = straight_through(latent_NCHW, quantised_NCHW)
        return Through(z_NCHW, penalties, {"perplexity": perplexity(codes_NHW, self.size)})

    def latent(self, h_NCHW: Tensor) -> Tensor:
        """The vectors to quantise, scaled to length 1 for cosine codes (Yu et al. 2022, section 3.2)."""
        h_NCHW = h_NCHW.float()
        return F.normalize(h_NCHW, dim=1) if self.recipe.cosine else h_NCHW

    def settle(self, latent_NCHW: Tensor) -> Tensor:
        """The nearest codes' vectors."""
        return self.embed(self.codes(latent_NCHW))

    def codes(self, latent_NCHW: Tensor) -> Tensor:
        """The numbers of the nearest codes: int64 [N, H, W]."""
        vectors_KC = self._scaled(self.vectors_KC)
        products_NHWK = latent_NCHW.float().permute(0, 2, 3, 1) @ vectors_KC.T
        return (vectors_KC.square().sum(1) - 2 * products_NHWK).argmin(-1)

    def embed(self, codes_NHW: Tensor) -> Tensor:
        """The codes' vectors: float32 [N, C, H, W]."""
        return F.embedding(codes_NHW, self._scaled(self.vectors_KC)).permute(0, 3, 1, 2)

    @torch.no_grad()
    def update(self) -> None:
        """Update the codes from the statistics since the last call, on all ranks, and reset codes that are rarely used.

        Non-finite statistics are ignored: the step's loss reports them.
        """
        if self._usage is None:
            return
        usage, self._usage = self._usage.over_ranks(self.size), None
        finite = usage.sums_KC.isfinite().all()
        for name, value in self._next(usage).items():
            target = getattr(self, name)
            ranks.assign(target, torch.where(finite, value, ranks.whole(target)))

    def _next(self, usage: Usage) -> dict[str, Tensor]:
        """The next state, by name of buffer."""
        decay, moving = self.recipe.decay, self.recipe.update == "ema"
        uses_K = self.uses_K.lerp(usage.uses_K, 1 - decay)
        vectors_KC = sums_KC = ranks.whole(self.vectors_KC)
        if moving:  # appendix A.1 of van den Oord et al. (2017)
            sums_KC = self.sums_KC.lerp(usage.sums_KC, 1 - decay)
            means_KC = self._scaled(sums_KC / uses_K[:, None].clamp(min=1e-6))
            vectors_KC = torch.where(uses_K[:, None] > 1e-6, means_KC, vectors_KC)
        # Reset codes used less than a fraction of the mean use: the nth of them takes candidate n, if there is one.
        mean_use = usage.uses_K.sum() / self.size
        dead_K = uses_K < self.recipe.revive * mean_use
        turn_K = dead_K.cumsum(0) - 1
        takes_K = dead_K & (turn_K < len(usage.keys_R))
        new_KC = usage.vectors_RC[turn_K.clamp(0, len(usage.keys_R) - 1)]
        found = {
            "uses_K": torch.where(takes_K, mean_use, uses_K),
            "vectors_KC": torch.where(takes_K[:, None], new_KC, vectors_KC),
        }
        if moving:
            found["sums_KC"] = torch.where(takes_K[:, None], new_KC * mean_use, sums_KC)
        return found

    def _note(self, latent_NCHW: Tensor, codes_NHW: Tensor, draws: Draws) -> None:
        vectors_MC = latent_NCHW.permute(0, 2, 3, 1).flatten(0, 2)
        codes_M = codes_NHW.flatten()
        uses_K = torch.bincount(codes_M, minlength=self.size).float()
        sums_KC = vectors_MC.new_zeros(self.size, self.width).index_add_(0, codes_M, vectors_MC)
        keys, vectors = lowest(_keys(draws, codes_NHW[0].numel()), vectors_MC, self.size)
        usage = Usage(uses_K, sums_KC, keys, vectors)
        self._usage = usage if self._usage is None else self._usage.joined(usage, self.size)

    def _scaled(self, vectors_KC: Tensor) -> Tensor:
        return F.normalize(vectors_KC, dim=1) if self.recipe.cosine else vectors_KC


def _keys(draws: Draws, positions: int) -> Tensor:
    """A random int64 for each position of each sample. The low bits are sample and position, so all are different."""
    random_NP = (draws.uniform("new codes", positions) * 2**24).long()
    position_P = torch.arange(positions, device=random_NP.device)
    return (random_NP << 38 | (draws.samples[:, None] & 0xFFFFFF) << 14 | position_P & 0x3FFF).flatten()
