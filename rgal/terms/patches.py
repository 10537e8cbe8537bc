"""A prior for teachers of tokens, which have no batch norm statistics: patches of an image should differ in similarity.

Li et al., "Patch Similarity Aware Data-Free Quantization for Vision Transformers" (PSAQ-ViT), ECCV 2022.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.terms.objective import Context, FunctionTerm, Reads, Term

BANDWIDTH = 0.01
EPSILON = 1e-4  # added to densities


def patch_entropy(tokens: Tensor, points: int = 10) -> Tensor:
    """Compute the differential entropy of the similarities of an image's patches, the mean over images.

    With G the cosines of all pairs of patches, a patch with itself included, and p the mean over them of
    Normal(g; G, 0.01): H = trapezoid of -(p + 1e-4) ln(p + 1e-4) at points g evenly from the least to the largest
    cosine of the batch. Formula and number of points are those of PSAQ-ViT's code. So few points are wider apart than
    the kernel: values for different numbers of points cannot be compared, not even in sign.

    Args:
        tokens: (N, P, D), without a class token.
        points: at which the density is evaluated.

    Returns:
        A scalar, higher the more evenly the similarities are spread.
    """
    unit = F.normalize(tokens.float(), dim=2)
    cosines = (unit @ unit.transpose(1, 2)).flatten(1)
    low, high = cosines.detach().min(), cosines.detach().max()
    grid = low + (high - low) * torch.linspace(0, 1, points, device=tokens.device)
    scale = 1 / (BANDWIDTH * math.sqrt(2 * math.pi))
    distance = (grid.view(1, -1, 1) - cosines[:, None]) / BANDWIDTH
    density = scale * (-0.5 * distance.square()).exp().mean(2) + EPSILON
    return torch.trapezoid(-density * density.log(), grid).mean()


def patches_of(layer: Tensor) -> Tensor:
    """Return the patches (N,P,D) of a layer (N,D,H,W), without a class token.

    Tokens are (N,D,T,1). Their first is a class token if one less than T is a square number and T is none.

    >>> patches_of(torch.zeros(2, 3, 5, 1)).shape, patches_of(torch.zeros(2, 3, 2, 2)).shape
    (torch.Size([2, 4, 3]), torch.Size([2, 4, 3]))
    """
    tokens = layer.flatten(2).transpose(1, 2)
    count = tokens.shape[1]
    class_token = (
        layer.shape[3] == 1 and math.isqrt(count - 1) ** 2 == count - 1 and math.isqrt(count) ** 2 != count
    )
    return tokens[:, 1:] if class_token else tokens


def has_tokens(net: nn.Module) -> bool:
    """Tell whether a network's layers are tokens or channels-last maps of them, as `rgal.nets.discover` found."""
    return bool(getattr(net, "layers_are_tokens", False))


def patch_similarity() -> Term:
    """Make the term that stands in for batch norm statistics: minus the sum over layers of `patch_entropy`.

    PSAQ-ViT reads attention before its output projection in every block; here the teacher's layers are read, which are
    outputs of blocks.
    """

    def loss(ctx: Context) -> Tensor:
        layers = ctx.of("teacher").layers
        return -torch.stack([patch_entropy(patches_of(layer)) for layer in layers]).sum()

    return FunctionTerm(loss, [Reads("teacher", "layers")])
