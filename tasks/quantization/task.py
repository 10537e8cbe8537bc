"""Data-free quantization: the student is a fake-quantized copy of the teacher, calibrated and trained on synthesised
images."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import Field, StrictBool, field_validator
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.precision import place
from rgal.core.problem import Domain
from rgal.methods.recipe import SGD, Recipe
from rgal.nets import is_own
from rgal.nets.checkpoint import load_weights
from rgal.suite.plan.settings import Strict
from rgal.suite.running.single import SingleStage
from rgal.suite.store.folders import write_json
from rgal.suite.task import Job, Task
from rgal.tasks.quantization.fake_quant import ActivationRange, Bits, Gradient, Placement, Scheme, WeightRange
from rgal.tasks.quantization.layer_report import layer_report
from rgal.tasks.quantization.quantize import Coverage, QuantizedNet, megabytes, quantize
from rgal.terms.transfer import cross_entropy

REPORT_IMAGES = 512  # test images that the ranges and errors of the layers are reported for


class Options(Strict):
    """What a suite may set for this task; every width in `bits` is a case of its own. See `fake_quant.Scheme`."""

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
    def _widths(cls, value: Any) -> Any:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, (list, tuple)) or not texts:
            raise ValueError("expected widths such as w8a8 w4a4")
        try:
            widths = tuple(str(Bits.parse(str(text))) for text in texts)
        except UserError as error:
            raise ValueError(str(error)) from error
        if doubled := [text for text in widths if widths.count(text) > 1]:
            raise ValueError(f"{doubled[0]} is given twice")
        return widths

    def scheme(self) -> Scheme:
        return Scheme(**{field.name: getattr(self, field.name) for field in fields(Scheme)})


def quantized_student(job: Job) -> QuantizedNet:
    """The teacher as this trial quantizes it, with parameters to train and no ranges yet."""
    options = Options.model_validate(job.trial.options)
    bits = Bits.parse(options.bits[0])
    student = quantize(job.problem.teacher, job.problem.domain.shape, bits, options.scheme())
    place(student, job.problem.device).requires_grad_(True)
    return student


class Quantization(SingleStage):
    """Ranges follow the images that come before the student's first step, and are frozen from then on.

    The student trains in evaluation mode: batch norm statistics stay the teacher's, their scale and shift are trained.
    """

    student: QuantizedNet

    def __init__(self, job: Job) -> None:
        super().__init__(job, quantized_student(job), train_mode=nn.Module.eval, on_images=self._calibrate)
        if job.real is not None:
            count = job.recipe.rounds.synthesis_batch
            self._calibrate(*job.real.sample(count, job.streams.get("calibration images")))
        if self.initial_images:  # they come before the student's first step, as synthesised ones do
            pool, size = self.stage.pool, job.recipe.rounds.synthesis_batch
            for images, targets in zip(pool.images.split(size), pool.targets.split(size), strict=True):
                self._calibrate(images.float() / 255, targets)

    @torch.no_grad()
    def _calibrate(self, images: Tensor, targets: Tensor) -> None:
        """Take images (N,C,H,W) in [0,1] into the ranges, in shuffled batches as the student would see them."""
        if self.stage.steps["student"]:
            return
        rng = self.job.streams.get("calibration order")
        order = torch.randperm(len(images), generator=rng, device=images.device)
        with self.student.tracking():
            for rows in order.split(self.job.recipe.rounds.batch):
                inputs = self.job.problem.domain.normalise(images[rows])
                self.student(inputs.contiguous(memory_format=torch.channels_last))

    def result(self) -> dict[str, Any]:
        coverage = self.student.coverage
        return super().result() | {
            "model_mb": self.student.megabytes(),
            "float_mb": megabytes(self.job.problem.teacher),
            "left_float": list(coverage.left_float),
            "layer_note": left_in_float(coverage, self.student.scheme),
        }

    def save(self, folder: Path) -> None:
        super().save(folder)
        seen = self.job.test.images[:REPORT_IMAGES].to(self.job.problem.device).float() / 255
        layers = layer_report(self.student, self.job.problem.domain.normalise(seen))
        write_json(folder / "layers.json", {"layers": layers})


def left_in_float(coverage: Coverage, scheme: Scheme) -> str:
    """What the placement promises to quantize and could not, in words; "" if nothing."""
    parts = [f"layers left in float: {', '.join(coverage.left_float)}"] if coverage.left_float else []
    if scheme.placement == "deploy" and coverage.float_norms:
        parts.append(f"batch norms left in float, as no layer takes them up: {len(coverage.float_norms)}")
    return "; ".join(parts)


class DataFreeQuantization(Task):
    name = "dfq"
    summary = "data-free quantization: the teacher in 2 to 8 bits without its data"
    options = Options
    case_title = "Bits"
    needs_student = False
    # Student and teacher have the same layers: none is distilled through maps. Batches are classes x samples.
    defaults = MappingProxyType({"cd": 0.0, "pairs": False, "per_class": 4})
    exports = ("onnx",)
    takes_pool = True

    def cases(self, options: Options) -> list[tuple[str, dict[str, Any]]]:
        return [(bits, options.model_dump() | {"bits": bits}) for bits in options.bits]

    def case_order(self, case: str, position: int) -> int:
        """Wide to narrow, the weights' width first."""
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
        """Ours can be quantized; others are, to see whether they can."""
        if not is_own(teacher):
            student = quantize(teacher, domain.shape, Bits(8, 8))
        return {"teacher": teacher, "student": student}

    def adapt(self, recipe: Recipe) -> Recipe:
        """The recipe's images and its own distillation, with the labels' cross-entropy and the optimiser of GDFQ."""
        return replace(
            recipe,
            transfer=(*recipe.transfer, cross_entropy()),
            student=SGD(1e-4, nesterov=True, schedule="quarters"),
        )

    def start(self, job: Job) -> Quantization:
        return Quantization(job)

    def export(self, job: Job, folder: Path, form: str) -> dict[str, Any]:
        from rgal.tasks.quantization.onnx_export import measure

        student = quantized_student(job)
        load_weights(student, folder / "student.safetensors")
        test = job.test
        return measure(student, job.problem.teacher, job.problem.domain, test.images, test.labels, folder)


TASK = DataFreeQuantization()
