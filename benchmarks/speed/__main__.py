"""Measure what the suite's steps cost: `python -m rgal.benchmarks.speed`.

Prints milliseconds for each synthesis step and each student step, and the ratio to the bare cost of the same
networks' forward and backward passes, measured alternately in the same run.

A bare synthesis step is a forward pass of generator, teacher and student, and a backward pass from the sum of their
logits' squares to the generator's parameters and codes; teacher and student are frozen. A bare student step is a
forward pass of the teacher without gradient, and a forward and backward pass of the student. The suite's steps add
views, every loss term of RGAL, optimisers and bookkeeping.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

from rgal.core.precision import Precision, autocast
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams
from rgal.engine.batches import Augmentation, StudentBatch
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.methods.registry import resolve
from rgal.suite.running.teachers import build_net
from rgal.synthesis.loop import Inversion
from rgal.terms.objective import Progress

DOMAIN = Domain((3, 32, 32), 10, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


class Bench:
    """The same networks in the suite's loops and bare.

    Args:
        method: the method whose steps are timed.
        batch: how many images each synthesis step makes, and each student step trains on.
        device, precision: where and in what the networks compute.
    """

    def __init__(self, method: str, batch: int, device: torch.device, precision: Precision) -> None:
        self.device, self.precision, self.batch = device, precision, batch
        self.teacher = build_net("wrn40_2", DOMAIN, device, 0)
        self.student = build_net("wrn16_1", DOMAIN, device, 1)
        problem = Problem(self.teacher, DOMAIN, device)
        recipe = resolve(method).recipe
        streams = Streams(device, "speed")
        self.inversion = Inversion(recipe.inversion(), problem, self.student, streams, precision)
        self.images = 2 if recipe.pairs else 1
        nets = {"student": self.student, "teacher": self.teacher}
        augmentation = Augmentation(recipe.student_view, recipe.pairs)
        spec = StudentSpec(recipe.transfer, recipe.student, 1000, augmentation)
        self.loop = StudentLoop(nets, DOMAIN, spec, streams, precision)
        self.pool = torch.rand(batch // self.images, *DOMAIN.shape, device=device)
        self.labels = torch.randint(0, 10, (len(self.pool),), device=device)
        self.inputs = torch.randn(batch, *DOMAIN.shape, device=device).contiguous(
            memory_format=torch.channels_last
        )
        self.inversion.begin()

    def freeze_student(self, frozen: bool) -> None:
        """Freeze the student, as synthesis does, or let it train."""
        self.student.train(not frozen).requires_grad_(not frozen)

    def synthesis(self) -> None:
        self.inversion.step(Progress())

    def bare_synthesis(self) -> None:
        images = self.inversion.images
        with autocast(self.device, self.precision):
            x = images.images().contiguous(memory_format=torch.channels_last)
            loss = _total(self.teacher(x)) + _total(self.student(x))
        torch.autograd.grad(loss, images.parameters())

    def student_step(self) -> None:
        self.loop.step(StudentBatch(self.pool, self.labels))

    def bare_student(self) -> None:
        with autocast(self.device, self.precision):
            with torch.no_grad():
                target = self.teacher(self.inputs)
            loss = _total(self.student(self.inputs) * target)
        torch.autograd.grad(loss, list(self.student.parameters()))


def _total(logits: Tensor) -> Tensor:
    return logits.float().square().sum()


def alternate(
    ours: Callable[[], None], bare: Callable[[], None], repeats: int, device: torch.device
) -> tuple[float, float, float]:
    """Time two functions in turn, after one warm-up call each.

    Args:
        ours, bare: a step of the suite, and the bare passes of the same networks.
        repeats: how many times to call each.
        device: where they compute; it is synchronised before the clock is read.

    Returns:
        (median ms of ours, median ms of bare, median of the paired ratios).
    """

    def timed(work: Callable[[], None]) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 1000 * (time.perf_counter() - start)

    ours()
    bare()
    pairs = [(timed(ours), timed(bare)) for _ in range(repeats)]
    ratio = statistics.median(a / b for a, b in pairs)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), ratio


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="rgal")
    parser.add_argument(
        "--batch", type=int, default=256, help="images in a synthesis step and in a student step"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    device = torch.device(options.device)
    bench = Bench(options.method, options.batch, device, options.precision)
    print(
        f"{options.method}, WRN-40-2 -> WRN-16-1, {options.batch} images a step, {options.device}, "
        f"{options.precision}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for name, ours, bare, frozen in (
        ("synthesis step", bench.synthesis, bench.bare_synthesis, True),
        ("student step", bench.student_step, bench.bare_student, False),
    ):
        bench.freeze_student(frozen)
        ours_ms, bare_ms, ratio = alternate(ours, bare, options.repeats, device)
        print(
            f"{name:<15} {ours_ms:9.1f} ms   bare networks {bare_ms:9.1f} ms   ratio {ratio:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
