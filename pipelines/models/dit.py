"""DiT, a Transformer that denoises images as patches (Peebles & Xie 2023), with cross-attention to captions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.attention import Attention, FeedForward
from headrace.models.blocks import POSITION_FEATURES, NoiseEmbedding, loud, positions, zero
from headrace.models.conditions import Conditioned, Conditioning
from headrace.models.text import Caption, Context
from headrace.recipe.model import DiT as DiTRecipe


class DiTBlock(nn.Module):
    """Self-attention, cross-attention and a feed-forward network; adaLN-Zero modulates the first and the last.

    Section 3.2 of Peebles & Xie (2023): scale, shift and gate come from the embedding, and gates start at zero.
    """

    def __init__(self, width: int, heads: int, context_width: int) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width, elementwise_affine=False)
        self.attend_self = Attention(width, heads)
        self.norm_cross = nn.LayerNorm(width)
        self.attend_cross = Attention(width, heads, context_width)
        self.norm_feed_forward = nn.LayerNorm(width, elementwise_affine=False)
        self.feed_forward = FeedForward(width)
        self.modulation = zero(nn.Linear(width, 6 * width))
        zero(self.attend_cross.out)

    def forward(self, x_NLC: Tensor, embedding_NC: Tensor, context: Context) -> Tensor:
        """Returns [N, L, C]."""
        scale, shift, gate, scale_2, shift_2, gate_2 = self.modulation(embedding_NC)[:, None].chunk(6, -1)
        x_NLC = x_NLC + gate * self.attend_self(torch.addcmul(shift, self.norm_self(x_NLC), scale + 1))
        x_NLC = x_NLC + self.attend_cross(self.norm_cross(x_NLC), context.tokens_NLD, context.mask_NL)
        return x_NLC + gate_2 * self.feed_forward(torch.addcmul(shift_2, self.norm_feed_forward(x_NLC), scale_2 + 1))


class DiT(Conditioned):
    """A network F(x, c_noise, context), for any image size that the patch size divides.

    Its output has the shape of x and is zero before training.
    """

    def __init__(self, recipe: DiTRecipe) -> None:
        super().__init__(recipe)
        self.patch = recipe.patch
        values = recipe.image_channels * recipe.patch**2
        self.noise = NoiseEmbedding(recipe.width)
        self.pooled = loud(nn.Linear(recipe.context_width, recipe.width))
        self.embed = nn.Linear(values + POSITION_FEATURES, recipe.width)
        self.blocks = nn.ModuleList(
            DiTBlock(recipe.width, recipe.heads, recipe.context_width) for _ in range(recipe.layers)
        )
        self.norm_out = nn.LayerNorm(recipe.width, elementwise_affine=False)
        self.modulation_out = zero(nn.Linear(recipe.width, 2 * recipe.width))
        self.out = zero(nn.Linear(recipe.width, values))

    def forward(self, x_NCHW: Tensor, c_noise_N: Tensor, conditioning: Conditioning | Caption | Context) -> Tensor:
        """Returns [N, C, H, W]. Conditioning that is not yet a `Context` is encoded first."""
        if x_NCHW.shape[-1] % self.patch or x_NCHW.shape[-2] % self.patch:
            raise ValueError(f"image: found {list(x_NCHW.shape[-2:])} pixels, expected multiples of {self.patch}")
        context = conditioning if isinstance(conditioning, Context) else self.encode(conditioning)
        embedding_NC = F.silu(self.noise(c_noise_N) + self.pooled(context.pooled_ND))
        patches_NCHW = F.pixel_unshuffle(x_NCHW, self.patch)
        where_NCHW = positions(patches_NCHW).expand(len(x_NCHW), -1, -1, -1)
        h_NLC = self.embed(torch.cat([patches_NCHW, where_NCHW], 1).flatten(2).transpose(1, 2))
        for block in self.blocks:
            h_NLC = block(h_NLC, embedding_NC, context)
        scale, shift = self.modulation_out(embedding_NC)[:, None].chunk(2, -1)
        out_NLC = self.out(torch.addcmul(shift, self.norm_out(h_NLC), scale + 1))
        return F.pixel_shuffle(out_NLC.transpose(1, 2).unflatten(2, patches_NCHW.shape[-2:]), self.patch)
