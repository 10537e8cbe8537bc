"""Block-wise reconstruction: rounding and scales are learnt, one block after the other, to the teacher's outputs.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (AdaRound), ICML 2020; block by block as Li
et al., BRECQ, ICLR 2021; scales as Esser et al., LSQ, ICLR 2020; activations quantized at random as Wei et al., QDrop,
ICLR 2022; all four together in Jeon et al., GENIE, CVPR 2023. Notation: a weight w with scale s and zero-point z,
h = clamp(1.2 sigmoid(V) - 0.1, 0, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.tasks.quantization.fake_quant import fake_quantize, limits
from rgal.tasks.quantization.quantized_net import QuantizedLayer, QuantizedNet
from rgal.tasks.quantization.quantizers import ActivationQuantizer
from rgal.terms.objective import Context, LossTerm, Reads, Term, TermContext

LOW, HIGH = -0.1, 1.1  # reach of h before it is clamped
QUIET = 0.2  # share of a block's steps before rounding is drawn to a decision
SHARPNESS = 20.0, 2.0  # of what draws it there, first and last
PACE = 0.1  # of the logarithm of an activation's scale, beside V, under one step size


def rounding_of(v: Tensor) -> Tensor:
    """Return h of V: the share by which a weight is rounded up."""
    return ((HIGH - LOW) * v.sigmoid() + LOW).clamp(0, 1)


def indecision(v: Tensor, sharpness: float) -> Tensor:
    """Return sum (1 - |2h - 1|^b), 0 where every weight is rounded either up or down.

    Args:
        v: V.
        sharpness: b.
    """
    return (1 - (2 * rounding_of(v) - 1).abs().pow(sharpness)).sum()


def sharpness_at(done: float) -> float | None:
    """Return b at a share of a block's steps: falling linearly from 20 to 2; None before the first fifth is over."""
    first, last = SHARPNESS
    return None if done < QUIET else first + (last - first) * (done - QUIET) / (1 - QUIET)


class LearntRounding(nn.Module):
    """Learn for each weight of a layer whether it is rounded up or down; h starts at what rounding takes away.

    The least and the greatest weight of each output channel are rounded to nearest and stay so: the scale that comes
    from them is then that of the rounded weights too.

    Args:
        layer: the layer, which is not this module's.
    """

    fixed: Tensor

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self.of = (layer,)
        weight, scale, _ = self._parts()
        share = weight / scale - (weight / scale).floor()
        self.v = nn.Parameter(-((HIGH - LOW) / (share - LOW) - 1).log())
        rows = weight.movedim(layer.quantizer.axis, 0).flatten(1)
        ends = torch.zeros_like(rows, dtype=torch.bool)
        for index in (rows.argmin(1), rows.argmax(1)):
            ends.scatter_(1, index[:, None], True)
        fixed = ends.view(weight.movedim(layer.quantizer.axis, 0).shape).movedim(0, layer.quantizer.axis)
        self.register_buffer("fixed", fixed, persistent=False)

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return (w, s, z), s and z along the axis of output channels, all without gradient."""
        layer, quantizer = self.of[0], self.of[0].quantizer
        weight = layer.weight.detach().float()
        shape = [1] * weight.ndim
        shape[quantizer.axis] = -1
        scale, zero_point = (value.detach().view(shape) for value in quantizer.qparams(layer.weight))
        return weight, scale, zero_point

    def weight(self, hard: bool = False) -> Tensor:
        """Return s (clamp(floor(w/s) + h + z) - z); `hard`: with h 1 where V >= 0, else 0."""
        weight, scale, zero_point = self._parts()
        up = (self.v >= 0).float() if hard else rounding_of(self.v)
        integers = torch.where(self.fixed, (weight / scale).round(), (weight / scale).floor() + up)
        bounds = limits(self.of[0].quantizer.bits, self.of[0].quantizer.symmetric)
        return ((integers + zero_point).clamp(*bounds) - zero_point) * scale

    @torch.no_grad()
    def decide(self) -> None:
        """Put the rounded weight in the place of the layer's own, which the quantizer then leaves as it is."""
        self.of[0].weight.copy_(self.weight(hard=True))


class LearntScale(nn.Module):
    """Learn the scale of an activation's quantizer, which keeps its zero-point: s = s0 exp(0.1 t), t from 0.

    Args:
        quantizer: which is not this module's.
    """

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        self.of = (quantizer,)
        self.t = nn.Parameter(torch.zeros(()))

    def scale(self) -> Tensor:
        """Return s."""
        return self.of[0].qparams()[0].detach() * (PACE * self.t).exp()

    def shown(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Quantize each entry of an activation with probability 1/2; none before the quantizer is calibrated."""
        quantizer = self.of[0]
        if not quantizer.ready:
            return x
        zero_point = quantizer.qparams()[1]
        rounded = fake_quantize(
            x, self.scale(), zero_point, quantizer.bits, quantizer.symmetric, gradient="clipped"
        )
        return torch.where(torch.rand(x.shape, generator=rng, device=x.device) < 0.5, rounded, x)

    @torch.no_grad()
    def decide(self) -> None:
        """Give the quantizer the scale, and the range that it then has."""
        quantizer = self.of[0]
        scale, zero_point = self.scale(), quantizer.qparams()[1]
        bounds = limits(quantizer.bits, quantizer.symmetric)
        for end, q in zip((quantizer.low, quantizer.high), bounds, strict=True):
            end.copy_((q - zero_point) * scale)
        quantizer.scale.copy_(scale)
        self.t.zero_()


def blocks_of(student: QuantizedNet, kind: type[nn.Module] = QuantizedLayer) -> list[list[str]]:
    """Return the paths of the modules of each block that are of a kind, in the order of the forward pass.

    A block ends where a layer that the network names ends; the last one is what follows them. A module that is called
    again belongs to the block of its first call.

    Args:
        student: the quantized network.
        kind: quantized layers, or activation quantizers.
    """
    ends = [name.removeprefix("graph.") for name in student.layer_names]
    blocks: list[list[str]] = [[]]
    for node in student.graph.graph.nodes:
        if node.op != "call_module":
            continue
        path = str(node.target)
        wanted = isinstance(student.graph.get_submodule(path), kind)
        if wanted and not any(path in block for block in blocks):
            blocks[-1].append(path)
        if node.target in ends:
            blocks.append([])
    return blocks


def as_output(layer: Tensor, like: Tensor) -> Tensor:
    """Return an observed layer, (N,C,H,W), in the form that its module returned, such as tokens (N,T,D)."""
    if like.ndim == 3:
        return layer.squeeze(3).transpose(1, 2)
    return layer if layer.shape == like.shape else layer.permute(0, 2, 3, 1)


class BlockReconstruction(Term):
    """Learn one block after the other, each for the same number of steps, the last for what is left.

    The loss is mean_{n,h,w} sum_c (block(x) - y)^2 + r sum (1 - |2h - 1|^b), y the teacher's output of the block and x
    an input of which each entry is the teacher's or the student's, either as likely. Nothing but V and the scales of
    activations has a gradient. When a block's steps are over both are decided.

    Args:
        context: its student is quantized, and `steps` is known.
        rounding: r.

    Raises:
        UserError: the student is not quantized.
    """

    asks = (Reads("student", "layers"), Reads("teacher", "layers"))

    def __init__(self, context: TermContext, rounding: float) -> None:
        super().__init__()
        student = context.nets["student"]
        if not isinstance(student, QuantizedNet):
            raise UserError(
                "block reconstruction learns the rounding of a quantized student: it is for --task dfq"
            )
        self.student, self.rounding, self.steps = (student,), rounding, 0
        layers, found = student.layers(), student.graph.get_submodule
        learnt = [[LearntRounding(layers[path]) for path in block] for block in blocks_of(student)]
        scales = [
            [LearntScale(cast(ActivationQuantizer, found(path))) for path in block]
            for block in blocks_of(student, ActivationQuantizer)
        ]
        self.learnt = nn.ModuleList(nn.ModuleList(block) for block in learnt)
        self.scales = nn.ModuleList(nn.ModuleList(block) for block in scales)
        self.blocks = [number for number, block in enumerate(learnt) if block]
        self.total, self.each = context.steps, max(1, context.steps // len(self.blocks))

    @property
    def block(self) -> int:
        """Which block is learnt."""
        return self.blocks[min(self.steps // self.each, len(self.blocks) - 1)]

    @property
    def done(self) -> float:
        """Share of the block's steps that is done."""
        return min(1.0, (self.steps - self.blocks.index(self.block) * self.each) / self.each)

    def _learnt(self, number: int) -> list[LearntRounding]:
        return [cast(LearntRounding, one) for one in cast(nn.ModuleList, self.learnt[number])]

    def _scales(self, number: int) -> list[LearntScale]:
        return [cast(LearntScale, one) for one in cast(nn.ModuleList, self.scales[number])]

    def forward(self, ctx: Context) -> Tensor:
        number, inputs = self.block, ctx.views["global"]
        teacher = ctx.observe("teacher", inputs, ("layers",))
        outputs = [*teacher.layers, teacher.logits]
        learnt = self._learnt(number)
        with self._shown(
            number, outputs, ctx
        ):  # on a tensor of its own: no other term's pass is taken for this one
            student = ctx.observe("student", inputs.clone(), ("layers",))
        output = [*student.layers, student.logits][number]
        error = (output.float() - outputs[number].float()).square().sum(1).mean()
        ctx.notes["reconstruction"] = error.detach()
        sharpness = sharpness_at(self.done)
        if sharpness is None:
            return error
        return error + self.rounding * sum(indecision(one.v, sharpness) for one in learnt)

    @contextmanager
    def _shown(self, number: int, outputs: list[Tensor], ctx: Context) -> Iterator[None]:
        """Let the student's block have soft weights, learnt scales and a mixed input, and nothing else a gradient."""
        student, handles = self.student[0], []
        trained = [p for p in student.parameters() if p.requires_grad]
        rng, dropping = ctx.streams.get("block inputs"), ctx.streams.get("block activations")

        def mixed(module: nn.Module, arguments: tuple[Tensor, ...], own: Tensor) -> Tensor:
            theirs = as_output(outputs[number - 1].to(own), own)
            dropped = torch.rand(own.shape, generator=rng, device=own.device) < 0.5
            return torch.where(dropped, theirs, own.detach())

        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            for one in self._learnt(number):
                one.of[0].quantizer.replacement = one.weight()
            for scale in self._scales(number):
                scale.of[0].replacement = partial(scale.shown, rng=dropping)
            if number:
                handles.append(
                    student.get_submodule(student.layer_names[number - 1]).register_forward_hook(mixed)
                )
            yield
        finally:
            for one in self._learnt(number):
                one.of[0].quantizer.replacement = None
            for scale in self._scales(number):
                scale.of[0].replacement = None
            for handle in handles:
                handle.remove()
            for parameter in trained:
                parameter.requires_grad_(True)

    def stepped(self, ctx: Context) -> None:
        number = self.block
        self.steps += 1
        if self.block != number or self.steps == self.total:
            for one in self._learnt(number):
                one.decide()
            for scale in self._scales(number):
                scale.decide()

    def get_extra_state(self) -> Tensor:
        """Return the number of steps taken, to be stored."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Take up a stored number of steps."""
        self.steps = int(state)


def block_reconstruction(rounding: float = 1.0) -> LossTerm:
    """Make `BlockReconstruction`, logged as "step"."""
    return LossTerm("step", 1.0, lambda context: BlockReconstruction(context, rounding))
