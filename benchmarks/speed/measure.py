"""Time a run's steps against their floor, in turn.

The floor of a step is what its networks cost alone, in the cheapest form that gives the same logits: each is passed the
same number of images as often as the step passes it some, frozen ones with their batch norms folded into the
convolutions before them where that is exact; gradients go to what is optimised and nowhere else. No loss term, view,
optimiser or bookkeeping is in it, nor the batch norm statistics that terms read. On a CPU it counts seconds that the
program ran, not those of the kernel, which are page faults in the main; the step counts both.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from rgal.benchmarks.speed.cases import Case, Running
from rgal.core.precision import Precision, autocast
from rgal.engine.run import TransferRun

KINDS = ("synthesis", "student")


@dataclass(frozen=True)
class Cost:
    """Seconds of the clock, of the program and of the kernel on its behalf, and page faults."""

    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    faults: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Call:
    """A network that a step calls: the shape of what it is shown, and whether gradients are wanted."""

    net: nn.Module
    shape: torch.Size
    graded: bool


def timed(work: Callable[[], object], device: torch.device) -> Cost:
    """Call a function and return what it cost; a GPU is synchronised before the clock is read."""

    def reading() -> tuple[float, float, float, int]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        used = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), used.ru_utime, used.ru_stime, used.ru_minflt

    before = reading()
    work()
    return Cost(*(b - a for a, b in zip(before, reading(), strict=True)))  # type: ignore[arg-type]


def folded(net: nn.Module) -> nn.Module:
    """Copy a network in evaluation mode with batch norms folded into convolutions; what cannot be traced stays."""
    try:
        return fuse(net)
    except Exception:  # torch.fx raises many kinds
        return net


class Floor:
    """The bare passes of one kind of step.

    Args:
        transfer: the run, whose networks are in the modes of this kind of step.
        kind: "synthesis" or "student".
        calls: what a step calls, as `recorded` lists it.
        precision: of the passes.
    """

    def __init__(self, transfer: TransferRun, kind: str, calls: list[Call], precision: Precision) -> None:
        self.device, self.precision = transfer.problem.device, precision
        frozen = {call.net for call in calls if not call.net.training and not _trains(call.net)}
        bare = {net: folded(net) for net in frozen}
        self.calls = [(bare.get(call.net, call.net), call.shape, call.graded) for call in calls]
        self.source = transfer.inversion.images if kind == "synthesis" and transfer.inversion else None
        self.inputs = [
            torch.randn(call.shape, device=self.device).contiguous(memory_format=torch.channels_last)
            for call in calls
        ]
        self.trained = [parameter for parameter in transfer.student.parameters() if parameter.requires_grad]

    def __call__(self) -> None:
        with autocast(self.device, self.precision):
            made = None if self.source is None else self.source.images()
            totals = [
                self._total(net, shown if made is None else _of_shape(made, shape), graded)
                for (net, shape, graded), shown in zip(self.calls, self.inputs, strict=True)
            ]
        loss = torch.stack([total for total in totals if total.requires_grad]).sum()
        wanted = self.trained if self.source is None else self.source.parameters()
        torch.autograd.grad(loss, list(wanted), allow_unused=True)

    def _total(self, net: nn.Module, images: Tensor, graded: bool) -> Tensor:
        with torch.set_grad_enabled(graded):
            return net(images.contiguous(memory_format=torch.channels_last)).float().square().sum()


def _trains(net: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in net.parameters())


def _of_shape(images: Tensor, shape: torch.Size) -> Tensor:
    return images if images.shape == shape else F.interpolate(images, shape[-2:])


def recorded(transfer: TransferRun, step: Callable[[], object]) -> list[Call]:
    """Do a step and list the calls of teacher and student in it."""
    calls: list[Call] = []

    def note(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append(Call(net, inputs[0].shape, torch.is_grad_enabled()))

    nets = {transfer.problem.teacher, transfer.student}
    hooks = [net.register_forward_pre_hook(note) for net in nets]
    try:
        step()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def measure(
    case: Case, batch: int, repeats: int, device: torch.device, precision: Precision
) -> list[dict[str, Any]]:
    """Time a case's synthesis and student steps, each block of steps beside as many floors.

    Args:
        case: what runs.
        batch: see `Running`.
        repeats: how many blocks are timed, after one step of each kind that warms up.
        device, precision: where and in what the networks compute.

    Returns:
        A row for each kind of step, ready for JSON; seconds and counts are medians over the blocks, of one step.
    """
    running = Running(case, batch, case.block * repeats + 2, device, precision)
    floors: dict[str, Floor] = {}
    spent: dict[str, Cost] = {kind: Cost() for kind in KINDS}
    done = dict.fromkeys(KINDS, 0)
    pairs: dict[str, list[tuple[Cost, Cost]]] = {kind: [] for kind in KINDS}
    while any(len(pairs[kind]) < repeats for kind in KINDS):
        transfer = running.transfer()
        kind = transfer.schedule.due()
        if kind is None or kind != transfer.mode:
            running.advance()
        elif kind not in floors:
            floors[kind] = Floor(transfer, kind, recorded(transfer, running.advance), precision)
            floors[kind]()
        else:
            spent[kind] += timed(running.advance, device)
            done[kind] += 1
            if done[kind] == case.block:
                passes = timed(partial(_repeat, floors[kind], case.block), device)
                pairs[kind].append((spent[kind], passes))
                spent[kind], done[kind] = Cost(), 0
    kernels: dict[str, int | None] = dict.fromkeys(KINDS) if device.type == "cpu" else _kernels(running)
    return [_row(case, kind, pairs[kind][:repeats], device, kernels[kind]) for kind in KINDS]


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


def _row(
    case: Case, kind: str, pairs: list[tuple[Cost, Cost]], device: torch.device, kernels: int | None
) -> dict[str, Any]:
    on_cpu = device.type == "cpu"

    def median(values: list[float]) -> float:
        return statistics.median(values) / case.block

    seconds = [step.user + step.system if on_cpu else step.wall for step, _ in pairs]
    least = [floor.user if on_cpu else floor.wall for _, floor in pairs]
    ratios = sorted(a / b for a, b in zip(seconds, least, strict=True))
    return {
        "case": case.title,
        "step": kind,
        "cpu_seconds": median([step.user + step.system for step, _ in pairs]),
        "wall_seconds": median([step.wall for step, _ in pairs]),
        "faults": median([step.faults for step, _ in pairs]),
        "floor_seconds": median(least),
        "floor_faults": median([floor.faults for _, floor in pairs]),
        "ratio": {"median": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]},
        "kernels": kernels,
    }


def _kernels(running: Running) -> dict[str, int | None]:
    """Count the kernels that a step of each kind launches on a CUDA device."""
    counts: dict[str, int | None] = {}
    while len(counts) < len(KINDS):
        transfer = running.transfer()
        kind = transfer.schedule.due()
        if kind is None or kind != transfer.mode or kind in counts:
            running.advance()
            continue
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            running.advance()
        counts[kind] = sum(event.device_type.name == "CUDA" for event in profile.events() or ())
    return counts
