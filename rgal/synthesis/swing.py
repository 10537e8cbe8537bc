"""Swing convolutions: a teacher whose strided convolutions see their input moved by a pixel, anew in every step.

Jeon et al., "GENIE: Show Me the Data for Quantization", CVPR 2023. A strided convolution takes some pixels of its input
only by chance of their position, which images learn to use; a move by -1, 0 or 1 pixel in each axis takes that away.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.batch_statistics import image_statistics
from rgal.core.observe import BatchNormStatistics
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext

SWINGING = "swinging"  # the name under which a recipe has the teacher with swing convolutions


def swung(x: Tensor, offset: Tensor) -> Tensor:
    """Pad maps (N,C,H,W) by one reflected pixel and cut them back `offset` - 1 pixels from the middle, without a sync.

    Maps of one pixel's height or width, which have nothing to reflect, stay as they are.

    Args:
        x: maps.
        offset: of rows and columns, int64 (2,), each 0, 1 or 2.
    """
    if min(x.shape[2:]) < 2:
        return x
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    rows, columns = (torch.arange(n, device=x.device) + o for n, o in zip(x.shape[2:], offset, strict=True))
    return padded.index_select(2, rows).index_select(3, columns)


class Swing(nn.Module):
    """Show a layer its input moved by `offset`, which starts as none."""

    offset: Tensor

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("offset", torch.ones(2, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(swung(x, self.offset))
        return result


def with_swings(context: TermContext) -> nn.Module:
    """Return a copy of the teacher whose strided convolutions are inside a `Swing`."""
    net = copy.deepcopy(context.nets["teacher"])
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and max(child.stride) > 1:
                setattr(parent, name, Swing(child))
    return net


def deviation_loss(statistics: list[BatchNormStatistics], images: Tensor) -> Tensor:
    """Return sum_l [mean_c (m_l - mu_l)^2 + mean_c (d_l - sigma_l)^2] + mean_i sum_c [m_ic^2 + (d_ic - 1)^2].

    m and d are means and standard deviations: of layer l's batch norm inputs, beside the running mu and sigma, each the
    root of the variance + 1e-6; and of the channels of each image.

    Args:
        statistics: of the layers, from `Observation.bn`.
        images: (N,C,H,W), normalised.
    """
    mean, var = image_statistics(images)
    total = (mean.square() + ((var + 1e-6).sqrt() - 1).square()).sum(1).mean()
    for s in statistics:
        deviation = (s.var + 1e-6).sqrt() - (s.running_var.float() + 1e-6).sqrt()
        total = total + (s.mean - s.running_mean.float()).square().mean() + deviation.square().mean()
    return total


class SwingStatistics(Term):
    """Compute `deviation_loss` of the network `SWINGING`, after a new draw of each of its offsets."""

    asks = (Reads(SWINGING, "bn"),)

    def __init__(self, context: TermContext) -> None:
        super().__init__()
        # In a tuple: the layers are the network's, not the term's.
        self.swings = (tuple(m for m in context.nets[SWINGING].modules() if isinstance(m, Swing)),)

    def forward(self, ctx: Context) -> Tensor:
        rng = ctx.streams.get("swing offsets")
        for swing in self.swings[0]:
            swing.offset = torch.randint(0, 3, (2,), generator=rng, device=swing.offset.device)
        seen = ctx.observe(SWINGING, ctx.views["global"], ("bn",))
        return deviation_loss(seen.bn, ctx.views["global"])


def swing_statistics(weight: float) -> LossTerm:
    """Make `SwingStatistics`."""
    return LossTerm("bn", weight, SwingStatistics)
