"""Where networks look for a class: maps from a layer and the gradient of a logit there (Grad-CAM).

Selvaraju et al., "Grad-CAM", ICCV 2017. SynQ (Kim et al., "SynQ: Accurate Zero-shot Quantization by Synthesis-aware
Fine-tuning", ICLR 2025) and SpaceshipNet (Yu et al., "Data-Free Knowledge Distillation via Feature Exchange and
Activation Region Constraint", CVPR 2023) make the student look where its teacher does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.observe import Observation
from rgal.terms.objective import Context, FunctionTerm, LossTerm, Reads, Term, TermContext, stateless

FLAT = 1e-3


def channel_weights(logits: Tensor, classes: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
    """Return for each layer the spatial mean of the gradient of each image's logit of its class, as a constant.

    Args:
        logits: (N, classes).
        classes: whose logit, (N,).
        layers: each (N,C_l,H_l,W_l), on the graph of the logits.

    Returns:
        (N,C_l) each, in float32.
    """
    score = logits.gather(1, classes[:, None]).sum()
    gradients = torch.autograd.grad(score, list(layers), retain_graph=True)
    return [gradient.float().mean((2, 3)) for gradient in gradients]


def class_map(seen: Observation, size: tuple[int, int]) -> Tensor:
    """Map where a network sees the class of its largest logit, in its last layer, each image scaled to [0,1].

    relu(sum_k a_k A_k) with a = max(1e-10, `channel_weights`), resized bilinearly, minus its least value, over its
    largest: SynQ in the form of its code, which drops negative weights. 1e-10 is added to the divisor. A flat map,
    whose values differ by less than `FLAT` of the largest, is a constant: its gradient, up to 1e10, has no direction to
    show, and at two bits, where flat maps are common, it drives students to NaN.

    Args:
        seen: logits and layers, with their graph.
        size: (height, width) of the map.

    Returns:
        (N, height, width).
    """
    layer = seen.layers[-1]
    (weights,) = channel_weights(seen.logits, seen.logits.detach().argmax(1), [layer])
    energy = torch.einsum("nk,nkhw->nhw", weights.clamp_min(1e-10), layer.float()).relu()
    resized = F.interpolate(energy[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    raised = resized - resized.amin((1, 2), keepdim=True)
    height = raised.amax((1, 2), keepdim=True)
    scaled = raised / (height + 1e-10)
    flat = height <= FLAT * resized.amax((1, 2), keepdim=True)
    return torch.where(flat, scaled.detach(), scaled)


def class_map_loss(student: Observation, teacher: Observation, size: tuple[int, int]) -> Tensor:
    """Compute the mean over images and pixels of (map of the student - map of the teacher)^2, maps by `class_map`."""
    return F.mse_loss(class_map(student, size), class_map(teacher, size).detach())


def layer_map_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Compute sum_l MSE of maps M_l (N,K,H_l,W_l) of both networks, the larger averaged to the size of the smaller."""
    losses = []
    for s, t in zip(student, teacher, strict=False):
        size = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
        losses.append(F.mse_loss(F.adaptive_avg_pool2d(s, size), F.adaptive_avg_pool2d(t, size)))
    return torch.stack(losses).sum()


def gradient_maps(seen: Observation, classes: Tensor) -> list[Tensor]:
    """Map where each layer sees a class: sum_k a_k A_k, a = `channel_weights`, as they are: (N,1,H_l,W_l) each."""
    weights = channel_weights(seen.logits, classes, seen.layers)
    pairs = zip(weights, seen.layers, strict=True)
    return [torch.einsum("nk,nkhw->nhw", a, layer.float())[:, None] for a, layer in pairs]


# The terms as recipes name them -------------------------------------------------------------------------------

NETS = ("student", "teacher")


def class_maps(weight: float) -> LossTerm:
    """Make the student see the class where its teacher sees it, by `class_map_loss`."""

    def loss(ctx: Context) -> Tensor:
        _, height, width = ctx.domain.shape
        return class_map_loss(ctx.of("student"), ctx.of("teacher", graph=True), (height, width))

    reads = (Reads("student", "layers"), Reads("teacher", "layers", graph=True))
    return stateless("cam", weight, loss, *reads)


def gradient_map_matching(weight: float) -> LossTerm:
    """Make the student's layers see the teacher's class where its teacher's layers do: `gradient_maps` of both.

    SpaceshipNet (CVPR 2023): no ReLU, no normalisation, the class is the teacher's largest logit for both networks.
    Layers are paired from the front.
    """

    def loss(ctx: Context) -> Tensor:
        student, teacher = ctx.of("student"), ctx.of("teacher", graph=True)
        classes = teacher.logits.detach().argmax(1)
        constant = [maps.detach() for maps in gradient_maps(teacher, classes)]
        return layer_map_loss(gradient_maps(student, classes), constant)

    return stateless("gcam", weight, loss, Reads("student", "layers"), Reads("teacher", "layers", graph=True))


def head_maps(head: nn.Module, layer: Tensor) -> Tensor:
    """Apply a linear head's weight, as a constant and without bias, to every position of a layer: (N,classes,H,W)."""
    weight = head.get_parameter("weight").detach()
    return torch.einsum("ck,nkhw->nchw", weight, layer.float())


def head_map_matching(weight: float) -> LossTerm:
    """Make the student see every class where its teacher does: `head_maps` of both networks' last layers.

    SpaceshipNet (CVPR 2023). Both networks must end in the spatial mean of their last layer and a linear head.
    """

    def build(context: TermContext) -> Term:
        heads = [_pooling_head(context, name) for name in NETS]

        def loss(ctx: Context) -> Tensor:
            seen = [ctx.of(name).layers[-1] for name in NETS]
            student, teacher = (head_maps(head, layer) for head, layer in zip(heads, seen, strict=True))
            return layer_map_loss([student], [teacher.detach()])

        return FunctionTerm(loss, [Reads(name, what) for name in NETS for what in ("layers", "feature")])

    return LossTerm("cam", weight, build)


def _pooling_head(context: TermContext, name: str) -> nn.Module:
    """Return a network's linear head. Raises UserError if its inputs are not the channels of the last layer."""
    net = context.nets[name]
    head = net.get_submodule(str(net.head_name)) if net.head_name and net.layer_names else None
    if isinstance(head, nn.Linear) and context.probe(name, "layers").layers[-1].shape[1] == head.in_features:
        return head
    raise UserError(
        f"the term 'cam' applies the {name}'s head to its last layer, but it does not end in the spatial mean of a "
        f"layer and a linear head; use another {name} or set the method's parameter cam=0"
    )
