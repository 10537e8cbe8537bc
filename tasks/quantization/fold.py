"""Fold batch norms into the layers before them."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from rgal.tasks.quantization.nodes import is_layer, module_of, source


def _is_linear_in_its_weight(layer: nn.Module | None) -> bool:
    """Tell whether scaling the weights of an output channel scales its output.

    It need not if a class of the user's own has its own forward.
    """
    kind = next(k for k in type(layer).__mro__ if k.__module__.startswith("torch.nn.modules"))
    has_own_forward = any(
        getattr(kind, m, None) is not getattr(type(layer), m, None) for m in ("forward", "_conv_forward")
    )
    return not has_own_forward and not (isinstance(layer, _ConvNd) and layer.transposed and layer.groups > 1)


def fold_batch_norms(graph: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """Fold every batch norm that directly follows a convolution or linear layer into that layer's weights.

    With gain g and shift b of the norm: w' = w g / sqrt(var + eps), bias' = (bias - mean) g / sqrt(var + eps) + b.

    Returns:
        For every node that was removed, the node that has its value now.
    """
    replaced: dict[fx.Node, fx.Node] = {}
    called = [n.target for n in graph.graph.nodes if n.op == "call_module"]
    for node in list(graph.graph.nodes):
        norm = module_of(graph, node)
        layer_node = source(node) if isinstance(norm, _BatchNorm) else None
        if layer_node is None or not is_layer(graph, layer_node) or len(layer_node.users) > 1:
            continue
        if (
            called.count(layer_node.target) > 1
            or not isinstance(norm, _BatchNorm)
            or norm.running_mean is None
        ):
            continue
        layer = module_of(graph, layer_node)
        if not _is_linear_in_its_weight(layer) or (
            isinstance(layer, nn.Linear) and layer_node.meta["dim"] != 2
        ):
            continue
        if isinstance(layer, nn.Linear):
            fused: nn.Module = fuse_linear_bn_eval(layer, norm)  # type: ignore[arg-type]
        else:
            assert isinstance(layer, _ConvNd)
            fused = fuse_conv_bn_eval(layer, norm, layer.transposed)
        # A bias that the layer did not have comes back frozen.
        fused.get_parameter("bias").requires_grad_(layer.get_parameter("weight").requires_grad)
        graph.add_submodule(str(layer_node.target), fused)
        node.replace_all_uses_with(layer_node)
        graph.graph.erase_node(node)
        _leave_parts(graph, str(node.target), norm)
        replaced[node] = layer_node
    graph.delete_all_unused_submodules()
    graph.recompile()
    return replaced


def _leave_parts(graph: fx.GraphModule, path: str, norm: nn.Module) -> None:
    """Keep of a folded norm the modules inside it, such as an activation, under their paths."""
    if parts := dict(norm.named_children()):
        holder = nn.Module()
        for name, part in parts.items():
            holder.add_module(name, part)
        graph.add_submodule(path, holder)
