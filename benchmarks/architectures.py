"""Tabulate what works with which architecture: what is found in it, distillation, quantization, ONNX.

    python -m rgal.benchmarks.architectures                    # all rows, on the terminal
    python -m rgal.benchmarks.architectures --write NAME ...   # these rows in docs/teachers.md; without NAMEs, all

Weights are random, with batch norm statistics of noise and a head that spreads its classes: this is about which parts
work, not about accuracy. A row takes half a minute to two minutes of one core.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgal import nets
from rgal.core.errors import UserError
from rgal.core.problem import Domain
from rgal.core.seeding import Streams, global_seed
from rgal.methods.registry import resolve
from rgal.nets.describe import found_in
from rgal.tasks.quantization.onnx_export import export_onnx
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantized_net import Coverage
from rgal.tasks.quantization.runtime import integer_layers, open_session, run
from rgal.tasks.quantization.scheme import Bits, Scheme
from rgal.terms.objective import LossTerm, Objective, Progress, TermContext

ARCHITECTURES = (
    "torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:mobilenet_v3_small", "torchvision:efficientnet_b0",
    "torchvision:regnet_y_400mf", "torchvision:densenet121", "torchvision:shufflenet_v2_x0_5",
    "torchvision:squeezenet1_1", "torchvision:mnasnet0_5", "torchvision:googlenet", "torchvision:convnext_tiny",
    "torchvision:swin_t", "timm:vit_tiny_patch16_224", "timm:repvgg_a0",
)  # fmt: skip
HEADING = (
    "network",
    "layers found",
    "head",
    "norms matched",
    "kd",
    "dfq: integer layers",
    "in float, and why",
    "ONNX",
)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "teachers.md"
SIZE, CLASSES, IMAGES = 64, 10, 64
BITS = "w7a8"  # exact in ONNX Runtime on every processor: sums of products of two bytes overflow on some
# Tried in this order: a teacher without batch norm statistics is inverted without them.
_METHODS = ("rgal", "rgal[bn=0]", "rgal[bn=0,cd=0]")


def row(name: str) -> tuple[str, ...]:
    """Measure one architecture: the cells of its row in the order of `HEADING`."""
    domain = Domain((3, SIZE, SIZE), CLASSES, (0.5,) * 3, (0.25,) * 3)
    with global_seed("architectures", name):
        net = nets.build(name, CLASSES, 3, SIZE)
        student = nets.build("resnet8", CLASSES, 3, SIZE)
        images = torch.rand(IMAGES, *domain.shape)
        spread(net, domain.normalise(images))
    net.requires_grad_(False)  # as every teacher
    found = found_in(net)
    layers = ", ".join(f"`{layer}`" for layer in found.layers) or "none"
    cells = (f"`{name}`", layers, f"`{found.head}`", f"{found.matched} of {found.norms}")
    return (*cells, distils(net, student, domain, images), *_quantized(net, domain, images))


@torch.no_grad()
def spread(net: nn.Module, inputs: Tensor) -> None:
    """Give batch norms the statistics of a batch, and the head logits that tell classes apart; leave it evaluating."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    net.train()(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    head = net.eval().get_submodule(str(net.head_name))
    logits = net(inputs)
    scale = 5 / logits.std(0).mean()
    head.get_parameter("weight").mul_(scale)
    if isinstance(head, nn.Linear):
        head.bias.copy_((head.bias - logits.mean(0)) * scale)


def distils(teacher: nn.Module, student: nn.Module, domain: Domain, images: Tensor) -> str:
    """Name the first form of RGAL whose losses, of synthesis and of the student, have gradients with these networks."""
    for method in _METHODS:
        recipe = resolve(method).recipe
        try:
            pixels = images[:8].clone().requires_grad_()
            student.zero_grad()
            _loss(recipe.synthesis, teacher, student, domain, pixels).backward()
            _loss(recipe.transfer, teacher, student, domain, images[:8]).backward()
        except UserError:
            continue
        found = pixels.grad
        gradients = [g for g in (found, *(p.grad for p in student.parameters())) if g is not None]
        if found is not None and found.abs().sum() > 0 and all(bool(g.isfinite().all()) for g in gradients):
            return f"`{method}`"
    return "no"


def _loss(
    terms: tuple[LossTerm, ...], teacher: nn.Module, student: nn.Module, domain: Domain, images: Tensor
) -> Tensor:
    objective = Objective(terms, TermContext(domain, {"teacher": teacher, "student": student}))
    views = dict.fromkeys(objective.views(), domain.normalise(images))
    labels = torch.arange(len(images)) // 2
    total, _, _ = objective(images, labels, views, Streams(images.device, "architectures"), Progress())
    return total  # type: ignore[no-any-return]


def _quantized(net: nn.Module, domain: Domain, images: Tensor) -> tuple[str, str, str]:
    """Quantize to `BITS` for an integer runtime, export and run: integer layers, what is in float, agreement."""
    try:
        student = quantize(net, domain.shape, Bits.parse(BITS), Scheme(placement="deploy"))
        with torch.no_grad(), student.calibrating():
            student(domain.normalise(images))
        with tempfile.TemporaryDirectory() as folder:
            info = export_onnx(student, domain, Path(folder) / "model.onnx")
            optimised = Path(folder) / "optimised.onnx"
            logits = run(open_session(info.path, optimised=optimised), images)
            integers = integer_layers(optimised)
    except UserError as error:
        return "none", str(error), "none"
    with torch.no_grad():
        simulated, exact = (of(domain.normalise(images)).argmax(1) for of in (student, net))
    agree, whole = ((simulated == of).float().mean().item() for of in (logits.argmax(1), exact))
    layers = int(info.layers or 0)
    return (
        f"{integers} of {layers}",
        in_float(net, student.coverage, layers - integers),
        f"{100 * agree:.0f} % ({100 * whole:.0f} %)",
    )


def in_float(net: nn.Module, coverage: Coverage, uncounted: int) -> str:
    """Name what a quantized network computes in float, each with its reason; numbers in names are written *.

    Args:
        net: the network that was quantized.
        coverage: the account of its layers.
        uncounted: layers that the runtime did not compute as integers.
    """
    norms = set(coverage.float_norms)
    fused = tuple(name for name in coverage.left_float if name.endswith("scaled_dot_product_attention"))
    modules = dict(net.named_modules())
    bypassed = tuple(name for name in coverage.left_float if name in modules)
    plain = tuple(name for name in coverage.left_float if name not in (*fused, *bypassed))
    parts = [
        _named(fused, "torch's attention in one call, whose two products have no place for a quantizer"),
        _named(bypassed, "its weight is read by a function, its own forward is never called"),
        _named(plain, "reads or multiplies values that have no quantizer"),
        _named(coverage.float_norms, "batch norm that follows no convolution, so that it cannot be folded"),
    ]
    others: dict[str, list[str]] = {}
    for path in coverage.float_parameters:
        owner = path.rpartition(".")[0]
        if owner not in norms and owner not in coverage.left_float:
            others.setdefault(_reason(net, owner), []).append(owner or path)
    parts += [_named(tuple(dict.fromkeys(names)), reason) for reason, names in others.items()]
    rest = uncounted - len(coverage.left_float)
    if rest > 0:
        parts.append(f"{rest} additions or products (ONNX Runtime has no integer kernel for their form)")
    return "; ".join(part for part in parts if part) or "nothing"


def _reason(net: nn.Module, owner: str) -> str:
    kind = type(net.get_submodule(owner)).__name__ if owner else ""
    if "Norm" in kind:
        return "layer norm: a runtime computes its statistics in float"
    return "a parameter that is added or multiplied: no layer"


def _named(names: tuple[str, ...], reason: str) -> str:
    if not names:
        return ""
    patterns = Counter(re.sub(r"\d+", "*", name) for name in names)
    listed = ", ".join(f"{count} `{name}`" for name, count in patterns.items())
    return f"{listed} ({reason})"


def table(rows: dict[str, tuple[str, ...]]) -> str:
    """Write rows as a table in Markdown."""
    lines = [HEADING, ("---",) * len(HEADING), *rows.values()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def rows_of(text: str) -> dict[str, tuple[str, ...]]:
    """Read the rows of the table from a page, by architecture."""
    rows = {}
    for line in text.splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
        if len(cells) == len(HEADING) and cells[0].strip("`") in ARCHITECTURES:
            rows[cells[0].strip("`")] = cells
    return rows


def write(page: Path, rows: dict[str, tuple[str, ...]]) -> None:
    """Put rows in place of those of the same architectures in a page, between its two marks."""
    text = page.read_text(encoding="utf-8")
    known: dict[str, Any] = rows_of(text) | rows
    ordered = {name: known[name] for name in ARCHITECTURES if name in known}
    start, end = "<!-- architectures: begin -->\n", "<!-- architectures: end -->"
    before, _, rest = text.partition(start)
    page.write_text(before + start + table(ordered) + "\n" + end + rest.partition(end)[2], encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Measure the architectures that are named, or all, and print or write their rows."""
    parser = argparse.ArgumentParser(prog="python -m rgal.benchmarks.architectures")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {PAGE.name}")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ARCHITECTURES)}")
    options = parser.parse_args(arguments)
    for name in options.names or ARCHITECTURES:
        measured = {name: row(name)}
        print(table(measured).splitlines()[-1], flush=True)
        if options.write:
            write(PAGE, measured)


if __name__ == "__main__":
    main(sys.argv[1:])
