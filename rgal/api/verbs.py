"""What a user calls: images, a student, an integer model, new classes; each from a teacher alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgal.api.budgets import GivenBudget
from rgal.api.calls import Call, Callback
from rgal.api.images import SynthesisedImages
from rgal.api.results import Distilled, Extended, Quantized
from rgal.api.runs import run_distillation, run_extension, run_quantization, run_synthesis
from rgal.api.teacher import Teacher


def synthesise(
    teacher: Teacher,
    method: str = "deepinversion",
    budget: GivenBudget = "small",
    seed: int = 0,
    *,
    student: nn.Module | str | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    state: str | Path | None = None,
) -> SynthesisedImages:
    """Make images of the teacher's classes from the teacher alone.

    Some methods look at a student while they make images. Where you give none, the terms of such a method that do so
    are left out, and the result names them; a method that is left with none is refused. With a student, it is trained
    along as `distill` does, and the images are those that it was trained on.

    Args:
        teacher: the network.
        method: "deepinversion", "cmi", "fast[k=10]", "rgal[target=teacher]", ...: the names of the command line, in
            the same grammar.
        budget: "smoke" (seconds), "small" (minutes), "paper" (what the authors ran), or numbers: {"rounds": 3}, which
            take the place of those of "small" for every method; {"budget": "smoke", "rounds": 3} of another's.
        seed: of all random draws.
        student: see above; as for `distill`.
        progress, callback, device, precision, state: as for `distill`.

    Returns:
        The images: `.images` uint8 (N,C,H,W), `.labels`, `.save(folder)`, `.grid()`.

    Raises:
        UserError: an argument makes no sense, or the method cannot work with this network.
    """
    call = Call(method, budget, seed, progress, callback, device, precision, state)
    return (
        run_synthesis(teacher, call)
        if student is None
        else run_distillation(teacher, student, call).synthesised
    )


def distill(
    teacher: Teacher,
    student: nn.Module | str,
    method: str = "rgal",
    budget: GivenBudget = "small",
    seed: int = 0,
    *,
    progress: bool = False,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    state: str | Path | None = None,
) -> Distilled:
    """Train a student on images that are synthesised from the teacher, without its data.

    Your network is copied and left as it was; the trained copy is `.student` of the result.

    Args:
        teacher: the network to learn from.
        student: the network to train, an `nn.Module` that starts from the weights it has; or a name, such as "resnet8"
            or "my_nets:tiny", whose weights are then drawn from the seed.
        method: "rgal", "cmi+rgal", "fast[k=10]+rgal", "deepinversion", ...: the names of the command line, in the same
            grammar; yours too, once a function is decorated with `rgal.method`.
        budget: "smoke" (seconds), "small" (minutes), "paper" (what the authors ran), or numbers: {"rounds": 3}, which
            take the place of those of "small" for every method; {"budget": "smoke", "rounds": 3} of another's.
        seed: of all random draws. The same seed, names and number of threads give the command line's numbers.
        progress: whether to show a progress bar.
        callback: is called after every step with a position: `mode`, `at` of `of`, `done` in [0,1],
            `remaining_seconds`. The run stops if it returns True, and with whatever it raises.
        device: "cpu", "cuda", "cuda:N" or "auto"; None: where the teacher is.
        precision: "fp32" or "bf16", of the networks' forward passes; None: as the budget says.
        state: a file that holds the state of the run, written every 20 seconds, when the callback stops it, and at the
            end. The same call goes on from there, and ends with the same numbers, bit for bit on a CPU.

    Returns:
        The trained network: `.student`, `.history`, `.images`, `.agreement(images)`, `.save(path)`.

    Raises:
        UserError: an argument makes no sense, the method needs data, or cannot work with these networks.
    """
    call = Call(method, budget, seed, progress, callback, device, precision, state)
    return run_distillation(teacher, student, call)


def quantize(
    teacher: Teacher,
    bits: str = "w8a8",
    method: str = "rgal",
    budget: GivenBudget = "small",
    seed: int = 0,
    *,
    calibration: Tensor | str | Path | None = None,
    placement: str = "deploy",
    progress: bool = False,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    state: str | Path | None = None,
    **options: Any,
) -> Quantized:
    """Quantize the teacher without its data: a fake-quantized copy, calibrated and trained on synthesised images.

    Args:
        teacher: the network.
        bits: widths of weights and activations, 2 to 8: "w8a8", "w4a8", ...
        method: "rgal", "gdfq+rgal", "zeroq", "naive", ...: the names of the command line, in the same grammar.
        budget, seed: as for `distill`.
        calibration: a few real images, a folder of files or (N,C,H,W), without labels: ranges come from them, while
            training uses synthesised ones. method="calibration" does nothing else.
        placement: "deploy" puts quantizers where an integer runtime has them and folds batch norms; "paper" where the
            literature has them, which is the command line's default.
        progress, callback, device, precision, state: as for `distill`.
        options: of the quantizers, as on the command line: gradient, weight_range, activation_range, momentum,
            percentile, symmetric_weights, symmetric_activations; see docs/quantization.md.

    Returns:
        The quantized network: `.export("model.onnx")`, `.agreement(images)`, `.layers`, `.coverage`, and what
        `distill` returns.

    Raises:
        UserError: an argument makes no sense, the method needs data, or cannot work with this network.
    """
    call = Call(method, budget, seed, progress, callback, device, precision, state)
    return run_quantization(teacher, bits, {"placement": placement, **options}, calibration, call)


def extend(
    teacher: Teacher,
    new_images: Tensor,
    new_labels: Tensor,
    method: str = "rgal",
    budget: GivenBudget = "small",
    seed: int = 0,
    *,
    progress: bool = False,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    state: str | Path | None = None,
) -> Extended:
    """Teach the network new classes from their images, and keep its old ones without any image of theirs.

    Args:
        teacher: the network; its classifier must be a linear layer.
        new_images: images of the new classes, uint8 or in [0,1], (N,C,H,W).
        new_labels: their classes (N,), numbered from `teacher.classes` on, without a gap.
        method: "rgal", "abd+rgal", "lwf", "finetune", ...: the names of the command line, in the same grammar. Those
            that keep statistics of old classes would have had to see their images, and are refused.
        budget, seed: as for `distill`.
        progress, callback, device, precision, state: as for `distill`.

    Returns:
        The wider network, whose classifier is one linear layer: what `distill` returns.

    Raises:
        UserError: an argument makes no sense, the method needs images of old classes, or cannot work with this network.
    """
    call = Call(method, budget, seed, progress, callback, device, precision, state)
    return run_extension(teacher, new_images, new_labels, call)
