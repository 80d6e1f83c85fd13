"""How close reconstructions are to their originals, and how much of a codebook they use."""

import math

import torch
from torch import Tensor


def similarity(originals_NCHW: Tensor, redrawn_NCHW: Tensor) -> dict[str, Tensor]:
    """`psnr` in dB and `ssim` (Wang et al. 2004) of each pair of uint8 images: float32 [N] each.

    Equal images get the PSNR of an error of half a grey level, 54.2 dB, so that means are finite.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = originals_NCHW.float(), redrawn_NCHW.float()
    error_N = (first - second).square().flatten(1).mean(1).clamp(min=0.25)
    ssim_N = structural_similarity_index_measure(second, first, reduction="none", data_range=255.0)
    assert isinstance(ssim_N, Tensor)
    return {"psnr": 20 * math.log10(255) - 10 * error_N.log10(), "ssim": ssim_N}


def codebook_use(codes: Tensor, size: int) -> dict[str, float]:
    """`usage`, the fraction of `size` codes that occur in `codes` (int64), and `perplexity`, e to their entropy.

    The perplexity is `size` if all codes are used equally often.
    """
    share = torch.bincount(codes.flatten(), minlength=size).double() / codes.numel()
    return {
        "usage": float((share > 0).double().mean()),
        "perplexity": math.exp(-float(torch.xlogy(share, share).sum())),
    }
