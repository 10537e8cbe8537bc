"""The task dfq: quantize the teacher, calibrate the result on synthesised images, train it on them, measure it."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import Field, StrictBool, field_validator
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.optimiser import SGD
from rgal.core.precision import place
from rgal.core.problem import Domain
from rgal.engine.options import Hooks
from rgal.methods.recipe import Recipe
from rgal.nets import is_own
from rgal.nets.checkpoint import load_weights
from rgal.suite.measures import ACCURACY, costs
from rgal.suite.plan.steps import Strict
from rgal.suite.running.single import SingleRun
from rgal.suite.store.folders import write_json
from rgal.suite.task import Job, Task
from rgal.tasks.quantization.layer_report import layer_report
from rgal.tasks.quantization.measures import EXPORTED, FLOAT_MB, LEAST_SQNR, MODEL_MB, SPEED_UP
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.quantized_net import Coverage, QuantizedNet, megabytes
from rgal.tasks.quantization.scheme import ActivationRange, Bits, Gradient, Placement, Scheme, WeightRange
from rgal.terms.transfer import cross_entropy

REPORT_IMAGES = 512  # test images that the ranges and errors of the layers are reported for


class Options(Strict):
    """What a suite may set for this task, see `Scheme`. Every width in `bits` is a case of its own."""

    bits: tuple[str, ...] = ("w8a8", "w4a4")
    placement: Placement = "paper"
    symmetric_weights: StrictBool | None = None
    symmetric_activations: StrictBool = False
    gradient: Gradient = "identity"
    weight_range: WeightRange = "minmax"
    activation_range: ActivationRange = "ema"
    momentum: float = Field(0.9, ge=0, lt=1)
    percentile: float = Field(99.9, gt=50, le=100)

    @field_validator("bits", mode="before")
    @classmethod
    def _parsed_widths(cls, value: Any) -> Any:
        """Accept one width or several, and write each as `Bits` does."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, (list, tuple)) or not texts:
            raise ValueError("expected widths such as w8a8 w4a4")
        try:
            widths = tuple(str(Bits.parse(str(text))) for text in texts)
        except UserError as error:
            raise ValueError(str(error)) from error
        if repeated := [text for text in widths if widths.count(text) > 1]:
            raise ValueError(f"{repeated[0]} is given twice")
        return widths

    def scheme(self) -> Scheme:
        """Return the options that are no bit widths."""
        return Scheme(**{field.name: getattr(self, field.name) for field in fields(Scheme)})


def quantized_student(job: Job) -> QuantizedNet:
    """Quantize the teacher as the trial says; the copy has trainable parameters and is not calibrated yet."""
    options = Options.model_validate(job.trial.options)
    bits = Bits.parse(options.bits[0])
    student = quantize(job.problem.teacher, job.problem.domain.shape, bits, options.scheme())
    place(student, job.problem.device).requires_grad_(True)
    return student


class Quantization(SingleRun):
    """The run of one trial of quantization.

    All images that come before the student's first step calibrate it; from then on its ranges are frozen. Where real
    images without labels are given, they calibrate it, and no others do. The student
    trains in evaluation mode: batch norm statistics stay the teacher's, their scale and shift are trained.
    """

    student: QuantizedNet

    def __init__(self, job: Job) -> None:
        given = job.unlabelled
        on_images = self._calibrate if given is None else None
        super().__init__(job, quantized_student(job), Hooks(train_mode=nn.Module.eval, on_images=on_images))
        if given is not None:
            self._calibrate_on(given)
        elif job.real is not None:
            count = job.recipe.rounds.synthesis_batch
            self._calibrate(*job.real.sample(count, job.streams.get("calibration images")))
        if (
            self.initial_images and given is None
        ):  # they come before the student's first step, as synthesised ones do
            self._calibrate_on(self.transfer.pool.images)

    def _calibrate_on(self, images: Tensor) -> None:
        """Calibrate on uint8 images (N,C,H,W), in pieces of the size that a round synthesises."""
        for part in images.split(self.job.recipe.rounds.synthesis_batch):
            self._calibrate(part.to(self.job.problem.device).float() / 255, part)

    @torch.no_grad()
    def _calibrate(self, images: Tensor, targets: Tensor) -> None:
        """Calibrate on images (N,C,H,W) in [0,1], whatever their targets, in shuffled batches as the student's are."""
        if self.transfer.schedule.steps["student"]:
            return
        rng = self.job.streams.get("calibration order")
        order = torch.randperm(len(images), generator=rng, device=images.device)
        with self.student.calibrating():
            for rows in order.split(self.job.recipe.rounds.batch):
                inputs = self.job.problem.domain.normalise(images[rows])
                self.student(inputs.contiguous(memory_format=torch.channels_last))

    def result(self) -> dict[str, Any]:
        coverage = self.student.coverage
        errors = [row["sqnr_db"] for row in self.layers if row["sqnr_db"] is not None]
        return super().result() | {
            "least_sqnr_db": min(errors, default=None),
            "calibration_note": self._calibration_note(),
            "model_mb": self.student.megabytes(),
            "float_mb": megabytes(self.job.problem.teacher),
            "left_float": list(coverage.left_float),
            "layer_note": left_in_float(coverage, self.student.scheme),
        }

    def illustrate(self, folder: Path) -> None:
        super().illustrate(folder)
        write_json(folder / "layers.json", {"layers": self.layers})

    @cached_property
    def layers(self) -> list[dict[str, Any]]:
        """The ranges and errors of the finished student's layers, on test images or those in their place."""
        images = self.job.judged_on[:REPORT_IMAGES].to(self.job.problem.device).float() / 255
        return layer_report(self.student, self.job.problem.domain.normalise(images))

    def _calibration_note(self) -> str:
        """Say where ranges come from, where that is not from what the method makes."""
        given, trial = self.job.unlabelled, self.job.trial
        if given is None:
            return ""
        return (
            f"ranges from {len(given):,} real images ({trial.calibration}, {trial.calibration_key}), which are not "
            "counted in Images"
        )


def left_in_float(coverage: Coverage, scheme: Scheme) -> str:
    """Return in words what the placement promises to quantize and could not; "" if nothing."""
    parts = (
        [f"layers left in float, not called as modules: {', '.join(coverage.left_float)}"]
        if coverage.left_float
        else []
    )
    if coverage.float_parameters:
        share, count = 100 * coverage.float_share, len(coverage.float_parameters)
        parts.append(
            f"parameters in float, of norms and of what else is no layer: {count}, {share:.1f} % of all"
        )
    if scheme.placement == "deploy" and coverage.float_norms:
        parts.append(f"batch norms left in float, as no layer takes them up: {len(coverage.float_norms)}")
    return "; ".join(parts)


class DataFreeQuantization(Task):
    """The task as the suite sees it: its options, its cases (bit widths), and what it exports."""

    name = "dfq"
    summary = "data-free quantization: the teacher in 2 to 8 bits without its data"
    options = Options
    case_title = "Bits"
    needs_student = False
    # Student and teacher have the same layers: none is distilled through maps. Batches are classes x samples.
    defaults = MappingProxyType({"cd": 0.0, "pairs": False, "per_class": 4})
    exports = ("onnx",)
    takes_pool = True
    takes_calibration = True
    calibration_row = "calibration"
    measures = (*ACCURACY, *costs(), MODEL_MB, FLOAT_MB, LEAST_SQNR, SPEED_UP, *EXPORTED)

    def cases(self, options: Options) -> list[tuple[str, dict[str, Any]]]:
        return [(bits, options.model_dump() | {"bits": bits}) for bits in options.bits]

    def case_order(self, case: str, position: int) -> int:
        """Order bit widths from wide to narrow, by that of the weights first."""
        bits = Bits.parse(case)
        return 100 - 10 * bits.weight - bits.activation

    def setting(self, dataset: str, teacher: str, student: str, options: Options) -> str:
        changed = [
            f"{name.replace('_', ' ')} {value}"
            for name, value in options.model_dump(exclude={"bits", "placement"}).items()
            if value != Options.model_fields[name].default
        ]
        return ", ".join([f"{dataset} {teacher}", f"{options.placement} placement", *changed])

    def networks(self, teacher: nn.Module, student: nn.Module, domain: Domain) -> dict[str, nn.Module]:
        """Quantize a network that is not ours, to see before the run whether that can be done."""
        if not is_own(teacher):
            student = quantize(teacher, domain.shape, Bits(8, 8))
        return {"teacher": teacher, "student": student}

    def adapt(self, recipe: Recipe) -> Recipe:
        """Keep a recipe's images and distillation; add cross-entropy on the labels, and take GDFQ's optimiser."""
        return replace(
            recipe,
            transfer=(*recipe.transfer, cross_entropy()),
            student=SGD(1e-4, nesterov=True, schedule="quarters"),
        )

    def start(self, job: Job) -> Quantization:
        return Quantization(job)

    def export(self, job: Job, folder: Path, form: str) -> dict[str, Any]:
        from rgal.tasks.quantization.onnx_measure import measure

        student = quantized_student(job)
        load_weights(student, folder / "student.safetensors")
        labels = None if job.test is None else job.test.labels
        return measure(student, job.problem.teacher, job.problem.domain, job.judged_on, labels, folder)


TASK = DataFreeQuantization()
