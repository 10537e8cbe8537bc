"""Say in words what was found in a network: its layers, its classifier, the norms whose statistics are matched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rgal.core.observe import batch_norms


@dataclass(frozen=True)
class Found:
    """Hold what was found in a network.

    Args:
        layers: paths of the modules whose outputs are the layers.
        head: path of the classifier; "" for none.
        matched: how many norms hold statistics that synthesis can match.
        norms: how many norms of any kind there are.
    """

    layers: tuple[str, ...]
    head: str
    matched: int
    norms: int

    def __str__(self) -> str:
        layers = ", ".join(self.layers) or "none"
        return f"layers {layers}; head {self.head or 'none'}; {self.matched} of {self.norms} norms matched"


def found_in(net: nn.Module) -> Found:
    """Collect what was found in a network that `rgal.nets.build` returned, or that names its parts itself.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(1, 4))
    >>> net.layer_names, net.head_name = ("0",), ""
    >>> print(found_in(net))
    layers 0; head none; 1 of 2 norms matched
    """
    norms = [module for module in net.modules() if _is_norm(module)]
    layers, head = getattr(net, "layer_names", ()), getattr(net, "head_name", "")
    return Found(tuple(layers), str(head), len(batch_norms(net)), len(norms))  # type: ignore[arg-type]


def _is_norm(module: nn.Module) -> bool:
    """Tell whether a module normalises: torch's own, and those of libraries, whose class names say so."""
    own = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
    name = type(module).__name__
    named = name.endswith(("Norm", "Norm2d")) or "BatchNorm" in name
    return isinstance(module, own) or (named and not any(True for _ in module.children()))
