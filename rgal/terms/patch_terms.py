"""Terms that synthesise images from vision transformers: patches that differ, or that are like their neighbours.

Notation: a layer's patches stand on a grid of h x w, c_ij are the cosines of their vectors.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rgal.terms.inversion import total_variation_l2_loss
from rgal.terms.objective import Context, LossTerm, Reads, stateless
from rgal.terms.patches import patch_entropy, patches_of

VARIATION = (2750.0, 32 * 3 * 224 * 224)  # of a batch, and the values that it holds


def patch_differences(weight: float, points: int = 10) -> LossTerm:
    """Maximise the sum over the teacher's layers of `patch_entropy` (PSAQ-ViT, Li et al., ECCV 2022)."""

    def loss(ctx: Context) -> Tensor:
        layers = ctx.of("teacher").layers
        return -torch.stack([patch_entropy(patches_of(layer), points) for layer in layers]).sum()

    return stateless("patches", weight, loss, Reads("teacher", "layers"))


def patch_contrast_loss(grid: Tensor, temperature: float = 0.1, positives: int = 4) -> Tensor:
    """Compute -mean_i ln(sum over positives p of e^{c_ip / T} / sum over neighbours j of e^{c_ij / T}).

    Neighbours are those of the 3x3 around a patch, fewer at borders; positives the most similar ones among them.

    Args:
        grid: vectors of patches, (N,D,h,w), with h and w of 2 or more.
        temperature: T.
        positives: how many neighbours are positives.
    """
    unit = F.normalize(grid.float(), dim=1)
    n, width, height, length = unit.shape
    around = F.unfold(unit, 3, padding=1).view(n, width, 9, height * length)
    cosines = (unit.flatten(2)[:, :, None] * around).sum(1)
    inside = F.unfold(torch.ones_like(unit[:1, :1]), 3, padding=1).view(1, 9, -1) > 0
    others = torch.tensor([i for i in range(9) if i != 4], device=grid.device)
    scores = (cosines / temperature).masked_fill(~inside, -math.inf)[:, others]
    return (scores.logsumexp(1) - scores.topk(positives, dim=1).values.logsumexp(1)).mean()


def grid_of(layer: Tensor) -> Tensor | None:
    """Return a layer's patches on their grid (N,D,h,w), without a class token; None where they form no such grid."""
    patches = patches_of(layer)
    height, width = layer.shape[2:]
    if height * width != patches.shape[1] or width == 1:  # tokens
        height = width = math.isqrt(patches.shape[1])
    if height * width != patches.shape[1] or min(height, width) < 2:
        return None
    return patches.transpose(1, 2).unflatten(2, (height, width))


def patch_contrast(weight: float, temperature: float = 0.1) -> LossTerm:
    """Draw each patch to the most similar of its neighbours: the sum over the teacher's layers of
    `patch_contrast_loss`; layers without neighbouring patches are left out."""

    def loss(ctx: Context) -> Tensor:
        seen = ctx.of("teacher")
        grids = [grid for layer in seen.layers if (grid := grid_of(layer)) is not None]
        parts = [patch_contrast_loss(grid, temperature) for grid in grids]
        return torch.stack(parts).sum() if parts else 0 * seen.logits.sum()

    return stateless("contrast", weight, loss, Reads("teacher", "layers"))


def variation_near(weight: float, wanted: float = VARIATION[0]) -> LossTerm:
    """Keep the total variation of the batch near a number: |TV - V|, TV = `total_variation_l2_loss` of the global view.

    Norms over the batch grow with the root of its number of values, and so does V: `wanted` is for 32 images of
    3 x 224 x 224.
    """

    def loss(ctx: Context) -> Tensor:
        images = ctx.views["global"]
        return (total_variation_l2_loss(images) - wanted * math.sqrt(images.numel() / VARIATION[1])).abs()

    return stateless("tv", weight, loss)
