"""Turn any convolutional network into its fake-quantized copy, in one call.

Which activations are quantized is called the *placement*:

paper    as the literature simulates it: the output of every activation function, and both factors of every product
         of computed matrices (of attention: queries, keys, softmax, values); nothing else (not the image, not the
         inputs of an addition, not the pooled feature); batch norms stay, in float, with frozen statistics; biases are
         float.
deploy   what an integer runtime needs: the image (always 8 bits: it is made of bytes), every input of a convolution,
         addition, concatenation, pooling or linear layer; batch norms folded; symmetric weights; biases rounded to
         int32 multiples of input scale x weight scale. The logits stay in float.
"""

from __future__ import annotations

from torch import fx, nn

from rgal.tasks.quantization.coverage import cover
from rgal.tasks.quantization.fold import fold_batch_norms
from rgal.tasks.quantization.nodes import (
    computed_nodes,
    free_path,
    is_activation,
    is_computing,
    is_layer,
    is_passing,
    is_product,
    is_rectifier,
    is_skipped_in_names,
    label,
    module_of,
    source,
)
from rgal.tasks.quantization.quantized_net import QuantizedLayer, QuantizedNet
from rgal.tasks.quantization.quantizers import ActivationQuantizer
from rgal.tasks.quantization.scheme import Bits, Scheme
from rgal.tasks.quantization.trace import trace

IMAGE_BITS = 8


def quantize(
    net: nn.Module, shape: tuple[int, int, int], bits: Bits, scheme: Scheme | None = None
) -> QuantizedNet:
    """Make a fake-quantized copy of a network; the network itself is left untouched.

    Weights are quantized at once. Activations pass unchanged until they have been calibrated: run images through the
    copy inside `with student.calibrating():`.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    >>> student = quantize(net, (3, 8, 8), Bits.parse("w4a4"))
    >>> student.coverage.quantized
    ('0', '3')

    Args:
        net: the network, from normalised images to logits.
        shape: (C, H, W) of its images.
        bits: widths of weights and activations.
        scheme: everything else that can be chosen; None takes the defaults.

    Returns:
        The copy, on the device and in the mode (training or evaluation) of `net`.

    Raises:
        UserError: the network has no layer to quantize, or its forward pass cannot be followed.
    """
    scheme = scheme or Scheme()
    graph, outputs = trace(net, shape)
    folded = fold_batch_norms(graph) if scheme.placement == "deploy" else {}
    for node in list(graph.graph.nodes):
        layer = module_of(graph, node)
        if layer is not None and is_layer(graph, node):  # one that is called twice is wrapped once
            graph.add_submodule(str(node.target), QuantizedLayer(layer, bits.weight, scheme))
    quantizer_paths = _place_quantizers(graph, bits, scheme)
    if scheme.placement == "deploy":
        _pass_input_scales(graph)
    names = [name for name in getattr(net, "layer_names", ()) if name in outputs]
    observed = [outputs[name] for name in names]
    observed_paths = [_observe(graph, folded.get(node, node), index) for index, node in enumerate(observed)]
    graph.graph.lint()
    graph.recompile()
    student = QuantizedNet(graph, bits, scheme, quantizer_paths, cover(graph, net))
    student.layer_names = tuple(f"graph.{path}" for path in observed_paths)
    last = getattr(net, "channels_last_layers", ())
    student.channels_last_layers = tuple(
        path for name, path in zip(names, student.layer_names, strict=True) if name in last
    )
    head = getattr(net, "head_name", "")
    student.head_name = f"graph.{head}" if isinstance(head, str) and head else ""
    student.to(device=next(net.parameters()).device)
    return student.train(net.training)


def _observe(graph: fx.GraphModule, node: fx.Node, index: int) -> str:
    """Insert an identity behind a node and its quantizer, and return its path.

    Hooks need a module to hang on, and the module whose output this was is no longer called.
    """
    readers = list(node.users)
    if len(readers) == 1 and isinstance(module_of(graph, readers[0]), ActivationQuantizer):
        node = readers[0]
    path = free_path(graph, f"observed_{index}")
    graph.add_submodule(path, nn.Identity())
    with graph.graph.inserting_after(node):
        identity = graph.graph.call_module(path, (node,))
    node.replace_all_uses_with(identity, delete_user_cb=lambda user: user is not identity)
    return path


def _is_quantized_layer(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_of(graph, node), QuantizedLayer)


def _place_quantizers(graph: fx.GraphModule, bits: Bits, scheme: Scheme) -> dict[str, str]:
    """Insert the activation quantizers, and return their module paths by readable name."""
    paper = scheme.placement == "paper"
    is_quantized = _is_quantized_in_paper if paper else _is_quantized_in_deploy
    factors = _factors(graph) if paper else {}
    paths: dict[str, str] = {}
    for node in [n for n in graph.graph.nodes if n in factors or is_quantized(graph, n)]:
        skipped = is_skipped_in_names if node in factors else is_activation if paper else is_rectifier
        name = base_name = label(graph, node, skipped)
        count = 1
        while name in paths:
            count += 1
            name = f"{base_name}:{count}"
        path = free_path(graph, f"grid_{len(paths)}")  # "grid" is in the keys of students saved before
        width = IMAGE_BITS if node.op == "placeholder" else bits.activation
        graph.add_submodule(path, ActivationQuantizer(width, scheme))
        with graph.graph.inserting_after(node):
            call = graph.graph.call_module(path, (node,))
        for user in factors.get(node, [user for user in node.users if user is not call]):
            user.replace_input_with(node, call)
        paths[name] = path
    return paths


def _factors(graph: fx.GraphModule) -> dict[fx.Node, list[fx.Node]]:
    """Return the values that products of two computed matrices read, each with these products.

    Values that an activation function made are not among them: they are quantized already.
    """
    computed = computed_nodes(graph)
    factors: dict[fx.Node, list[fx.Node]] = {}
    for product in graph.graph.nodes:
        if not is_product(product) or not computed.issuperset(product.all_input_nodes):
            continue
        for factor in product.all_input_nodes:
            origin = factor
            while not is_activation(graph, origin) and is_passing(graph, origin):
                origin = origin.all_input_nodes[0]
            if not is_activation(graph, origin):
                factors.setdefault(factor, []).append(product)
    return factors


def _is_quantized_in_paper(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether the paper's placement quantizes a node: activation functions, but not one that ends the network."""
    return is_activation(graph, node) and not _only_reaches_output(graph, node)


def _is_quantized_in_deploy(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether the deploy placement quantizes a node: what makes new values.

    Where their only reader is a rectifier, it is quantized instead of them, as runtimes fuse the two.
    """
    rectifies = is_rectifier(graph, node)
    if not (is_computing(graph, node) or _is_quantized_layer(graph, node) or rectifies):
        return False
    if _only_reaches_output(graph, node):
        return False
    readers = list(node.users)
    if len(readers) == 1 and is_rectifier(graph, readers[0]):
        return False
    previous = source(node)
    # A rectifier of values that others read too: they are quantized already, and so is the rectified value.
    return not (rectifies and previous is not None and len(previous.users) > 1)


def _only_reaches_output(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a value only goes to the output: logits stay in float."""
    return all(
        user.op == "output"
        or (is_passing(graph, user) and not is_activation(graph, user) and _only_reaches_output(graph, user))
        for user in node.users
    )


def _pass_input_scales(graph: fx.GraphModule) -> None:
    """Hand every layer with a bias the scale of the quantizer that its input comes from."""
    for node in list(graph.graph.nodes):
        layer = module_of(graph, node)
        if not isinstance(layer, QuantizedLayer) or layer.bias is None:
            continue
        origin = source(node)
        while origin is not None and is_passing(graph, origin):
            origin = source(origin)
        if origin is not None and isinstance(module_of(graph, origin), ActivationQuantizer):
            with graph.graph.inserting_before(node):
                scale = graph.graph.get_attr(f"{origin.target}.scale")
            node.args = (*node.args[:1], scale)
