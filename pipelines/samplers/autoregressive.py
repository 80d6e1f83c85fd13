"""Drawing codes from a prior one by one, row by row, with guidance; larger images through a sliding window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.draws import Draws
from headrace.models import Caption, Conditioning
from headrace.models.prior import Prior


@dataclass(frozen=True)
class Choice:
    """How a code is chosen from its logits."""

    temperature: float = 1.0
    """logits are divided by it"""
    top_k: int | None = None
    """only this many of the most likely codes (Fan et al. 2018)"""
    top_p: float = 1.0
    """only the smallest set of codes with this share of the probability (Holtzman et al. 2020, equation 3)"""

    def __call__(self, logits_NK: Tensor, uniform_N: Tensor) -> Tensor:
        """Choose codes (int64 [N]) by inverting the cumulative distribution at `uniform`, in [0, 1)."""
        logits_NK = logits_NK.double() / self.temperature
        if self.top_k is None and self.top_p == 1:  # of all codes, in any order
            return _between(logits_NK.softmax(-1).cumsum(-1), uniform_N)
        sorted_NK, order_NK = logits_NK.sort(stable=True, dim=-1, descending=True)
        share_NK = sorted_NK.softmax(-1)
        dropped_NK = share_NK.cumsum(-1) - share_NK >= self.top_p
        if self.top_k is not None:
            dropped_NK[:, self.top_k :] = True
        dropped_NK[:, 0] = False
        place_N = _between(share_NK.masked_fill(dropped_NK, 0).cumsum(-1), uniform_N)
        last_N = (~dropped_NK).sum(-1) - 1
        return order_NK.gather(-1, torch.minimum(place_N, last_N)[:, None])[:, 0]


def _between(edges_NK: Tensor, uniform_N: Tensor) -> Tensor:
    """The number of the interval between cumulative shares `edges` that each `uniform`, in [0, 1), is in: int64 [N]."""
    return torch.searchsorted(edges_NK, uniform_N.double()[:, None] * edges_NK[:, -1:], right=True)[:, 0]


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance of logits (Gafni et al. 2022, section 3.5)."""

    null: Conditioning
    """the conditioning to move away from, one for each image"""
    scale: float
    """1 leaves the logits as they are"""

    def both(self, conditioning: Conditioning) -> Conditioning:
        """`conditioning` followed by `null`, as one batch."""
        caption = None
        if conditioning.caption is not None and self.null.caption is not None:
            pairs = zip(conditioning.caption, self.null.caption, strict=True)
            caption = Caption(*(torch.cat(pair) for pair in pairs))
        return Conditioning(torch.cat([conditioning.labels(), self.null.labels()]), caption)

    def mix(self, logits_NK: Tensor) -> Tensor:
        """null + scale · (conditional − null), from the logits of both halves of the batch."""
        conditional_NK, null_NK = logits_NK.chunk(2)
        return null_NK + self.scale * (conditional_NK - null_NK)


@torch.no_grad()
def sample_codes(
    prior: Prior, conditioning: Conditioning, draws: Draws, choice: Choice, guidance: Guidance | None = None
) -> Tensor:
    """Codes of images of the training size: int64 [N, side, side], in `side`² steps with cached keys and values.

    Code l of image n depends on its logits and on the lth uniform number of sample n of `draws`.
    """
    uniform_NL = draws.uniform("codes", prior.side**2)
    reading, logits_NK = prior.begin(guidance.both(conditioning) if guidance else conditioning)
    codes: list[Tensor] = []
    for number, uniform_N in enumerate(uniform_NL.unbind(1)):
        if number:
            code_N = codes[-1].repeat(2) if guidance else codes[-1]
            logits_NK = prior.go_on(reading, code_N)
        codes.append(choice(guidance.mix(logits_NK) if guidance else logits_NK, uniform_N))
    return torch.stack(codes, 1).unflatten(1, (prior.side, prior.side))


@torch.no_grad()
def sample_window(
    prior: Prior,
    conditioning: Conditioning,
    draws: Draws,
    choice: Choice,
    guidance: Guidance | None = None,
    *,
    height: int,
    width: int,
) -> Tensor:
    """Codes of larger images: int64 [N, height, width], each drawn in a window of the training size that slides along.

    The window is centred on the code as far as the image's edges allow (Esser et al. 2021, section 3.3), so the network
    predicts every code at a position that occurred in training. The window moves with every code, so nothing can be
    cached. Raises ValueError if the image is smaller than the window.
    """
    side = prior.side
    if height < side or width < side:
        raise ValueError(f"codes: found {height} × {width}, expected at least {side} × {side}")
    uniform_NL = draws.uniform("codes", height * width)
    conditioning = guidance.both(conditioning) if guidance else conditioning
    codes_NHW = torch.zeros(len(uniform_NL), height, width, dtype=torch.int64, device=uniform_NL.device)
    for number, uniform_N in enumerate(uniform_NL.unbind(1)):
        row, column = divmod(number, width)
        top, left = (min(max(place - side // 2, 0), most - side) for place, most in ((row, height), (column, width)))
        before = (row - top) * side + column - left
        before_NL = codes_NHW[:, top : top + side, left : left + side].flatten(1)[:, :before]
        logits_NK = prior(before_NL.repeat(2, 1) if guidance else before_NL, conditioning)[:, -1]
        codes_NHW[:, row, column] = choice(guidance.mix(logits_NK) if guidance else logits_NK, uniform_N)
    return codes_NHW
