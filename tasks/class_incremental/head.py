"""Classifiers that grow by new classes; the logits of old classes stay what they were, bit for bit."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.observe import observe
from rgal.core.seeding import global_seed


class GrowingHead(nn.Module):
    """Map features (N,D) to logits (N, sum of outputs) by linear parts side by side, one for each phase.

    Parts are computed one by one, so that a new part cannot change the rounding of the others. If `unit` is set,
    features are brought to unit length first, as FeTrIL's classifiers are fitted on such.
    """

    def __init__(self, first: nn.Linear) -> None:
        super().__init__()
        self.parts = nn.ModuleList([first])
        self.unit = False

    @property
    def features(self) -> int:
        """Length D of a feature."""
        return cast(nn.Linear, self.parts[0]).in_features

    def forward(self, x: Tensor) -> Tensor:
        if self.unit:
            x = F.normalize(x, dim=1)
        return torch.cat([part(x) for part in self.parts], dim=1)

    def weight(self) -> Tensor:
        """Return the rows of all parts, (outputs, D)."""
        return torch.cat([cast(nn.Linear, part).weight for part in self.parts])

    def add(self, outputs: int, *seed: object) -> None:
        """Add a part of `outputs` logits, initialised as torch does it, from the given seed parts."""
        with global_seed(*seed):
            part = nn.Linear(self.features, outputs)
        self.parts.append(part.to(next(self.parameters()).device))

    @torch.no_grad()
    def assign(self, weight: Tensor, bias: Tensor) -> None:
        """Overwrite all parts with weight (outputs, D) and bias (outputs,)."""
        sizes = [cast(nn.Linear, part).out_features for part in self.parts]
        for part, rows, offsets in zip(self.parts, weight.split(sizes), bias.split(sizes), strict=True):
            linear = cast(nn.Linear, part)
            linear.weight.copy_(rows)
            linear.bias.copy_(offsets)

    @torch.no_grad()
    def keep_every(self, number: int) -> None:
        """Keep the first of every `number` rows of the first part, which must be the only one."""
        (part,) = self.parts
        linear = cast(nn.Linear, part)
        for name in ("weight", "bias"):
            rows = linear.get_parameter(name)
            setattr(linear, name, nn.Parameter(rows[::number].clone(), rows.requires_grad))
        linear.out_features = len(linear.weight)


def rows_of(head: nn.Module) -> Tensor:
    """Return the rows (outputs, D) of a classifier that can grow, or, in the first phase, of a linear layer."""
    return head.weight() if isinstance(head, GrowingHead) else cast(nn.Linear, head).weight


def growing_head(net: nn.Module) -> GrowingHead:
    """Return a network's classifier as a head that can grow; a linear layer is replaced in place by one, once.

    Raises:
        UserError: the network's classifier is not a linear layer.
    """
    name = cast(str, net.head_name)
    if not name:
        raise UserError(f"{type(net).__name__} has no linear classifier that could grow by new classes")
    head = net.get_submodule(name)
    if isinstance(head, GrowingHead):
        return head
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"the classifier '{name}' is {type(head).__name__}, expected Linear, which can grow by new classes"
        )
    parent, _, last = name.rpartition(".")
    grown = GrowingHead(head)
    setattr(net.get_submodule(parent), last, grown)
    return grown


def extractor_parameters(net: nn.Module) -> list[nn.Parameter]:
    """Return all parameters of a network but those of its classifier."""
    head = {id(p) for p in net.get_submodule(cast(str, net.head_name)).parameters()}
    return [p for p in net.parameters() if id(p) not in head]


class FirstOutputs(nn.Module):
    """Show only the first `outputs` logits of a network, as if it knew no other classes. The network is shared."""

    def __init__(self, net: nn.Module, outputs: int) -> None:
        super().__init__()
        self.net, self.outputs = net, outputs
        self.layer_names = tuple(f"net.{name}" for name in cast(tuple[str, ...], net.layer_names))
        last = cast(tuple[str, ...], getattr(net, "channels_last_layers", ()))
        self.channels_last_layers = tuple(f"net.{name}" for name in last)
        self.head_name = f"net.{net.head_name}"

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits[:, : self.outputs]


class OneLogitPerClass(nn.Module):
    """Show only the first of the `outputs` logits of each class, by which a network is evaluated."""

    def __init__(self, net: nn.Module, outputs: int) -> None:
        super().__init__()
        self.net, self.outputs = net, outputs

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits[:, :: self.outputs]


class NearestRow(OneLogitPerClass):
    """Score a class by the cosine of the feature and the first of its `outputs` rows in the classifier."""

    def forward(self, x: Tensor) -> Tensor:
        feature = observe(self.net, x, ("feature",)).required_feature.float()
        rows = rows_of(self.net.get_submodule(cast(str, self.net.head_name)))[:: self.outputs].float()
        with torch.autocast(x.device.type, enabled=False):
            return F.normalize(feature, dim=1) @ F.normalize(rows, dim=1).T
