"""What comes out of a call: the trained network, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgal.api.images import SynthesisedImages
from rgal.api.surroundings import undisturbed
from rgal.api.teacher import Teacher, as_pixels
from rgal.core.errors import UserError
from rgal.core.problem import Domain
from rgal.engine.evaluation import Agreement, agreement, logits_of
from rgal.engine.held_out import HeldOutSpec, held_out_images
from rgal.engine.options import Row
from rgal.nets.checkpoint import save_weights
from rgal.tasks.quantization.layer_report import layer_report
from rgal.tasks.quantization.onnx_export import export_float, export_onnx
from rgal.tasks.quantization.onnx_file import ExportInfo
from rgal.tasks.quantization.quantized_net import Coverage, QuantizedNet

REPORT_IMAGES = 512  # that the ranges and errors of the layers are measured on


class Result(nn.Module):
    """A trained network, and how it came about. It is called, moved and stored as the network itself.

    Its `state_dict` is that of `student`, which is a plain network of yours, in evaluation mode.

    Attributes:
        student: the network.
        history: what happened, a dict for each evaluation and each end of a kind of step: losses, steps, seconds.
        finished: whether the run came to its end; if the callback stopped it, the network is as it was then.
        method: the method's name, as tables of the command line have it.
        synthesised: the images that it was trained on, with their labels, `save` and `grid`.
        domain: the images that it takes, and its classes.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        history: list[Row],
        finished: bool,
        synthesised: SynthesisedImages,
        domain: Domain | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.history, self.finished, self.synthesised = history, finished, synthesised
        self.method = synthesised.method
        self.domain = domain or teacher.domain
        self._teacher = teacher

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, classes) of normalised images (N,C,H,W)."""
        logits: Tensor = self.student(x)
        return logits

    @property
    def images(self) -> Tensor:
        """The images that it was trained on, uint8 (N,C,H,W)."""
        return self.synthesised.images

    @property
    def labels(self) -> Tensor:
        """The classes that the images were made for, (N,)."""
        return self.synthesised.labels

    def agreement(self, images: Tensor | str | Path | None = None) -> Agreement:
        """Compare its answers with the teacher's: `top1`, in percent, and `kl`, the mean KL(teacher || student).

        Agreement is no accuracy: where the teacher is wrong, a student that agrees is wrong too.

        Args:
            images: uint8 or in [0,1], (N,C,H,W), or a folder of image files, without labels; None: images that are
                synthesised for it from the teacher alone, on which nothing was trained. Those take a while.

        Raises:
            UserError: they are no images of the domain.
        """
        teacher = self._teacher
        pixels = None if images is None else as_pixels(images, teacher.domain)
        with undisturbed(teacher.device):
            if pixels is None:
                pixels, _ = held_out_images(teacher.problem, HeldOutSpec(), teacher.name)
            theirs = logits_of(teacher.net, pixels, teacher.domain)
            ours = logits_of(self.student, pixels, self.domain)[:, : teacher.classes]
            return agreement(ours, theirs)

    def as_teacher(self, name: str = "student") -> Teacher:
        """Return a copy of the network as a teacher of its own, to be quantized or distilled further."""
        with undisturbed(self._teacher.device):
            return self._teacher.with_student(self.student, name, self.domain)

    def save(self, path: str | Path) -> Path:
        """Write the weights as `.safetensors`; returns the path. Raises UserError if that cannot be done."""
        path = Path(path).expanduser()
        save_weights(self.student, path)
        return path

    def export(self, path: str | Path) -> ExportInfo:
        """Write the network as an ONNX file, in float: images (N,C,H,W) in [0,1] to logits.

        Needs `pip install rgal[onnx]`. Returns what was written; raises UserError if that cannot be done.
        """
        return export_float(self.student, self.domain, _in_a_folder(path))

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the weights under the names that they have in `student`."""
        return self.student.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Take up weights under the names that they have in `student`."""
        return self.student.load_state_dict(state_dict, *args, **kwargs)

    def __repr__(self) -> str:
        state = "" if self.finished else ", stopped before its end"
        kind = type(self.student).__name__
        return f"{type(self).__name__} {kind} by {self.method} on {len(self.synthesised)} images{state}"


class Distilled(Result):
    """A student that was trained on synthesised images; see `Result`."""


class Extended(Result):
    """A network that knows new classes beside its old ones; see `Result`. Its logits are (N, old + new classes)."""


class Quantized(Result):
    """A fake-quantized copy of the teacher; see `Result`.

    Attributes:
        layers: a dict for each quantizer of weights and activations: layer, kind, bits, range, and the signal to noise
            ratio of what it rounds, sqnr_db.
    """

    student: QuantizedNet

    def __init__(self, *args: Any, calibration: Tensor | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shown = self.images if calibration is None else calibration
        self._shown = shown[:REPORT_IMAGES]

    @property
    def bits(self) -> str:
        """The widths of weights and activations, such as w8a8."""
        return str(self.student.bits)

    @property
    def coverage(self) -> Coverage:
        """Which layers are quantized, and which are left in float."""
        return self.student.coverage

    @property
    def layers(self) -> list[dict[str, Any]]:
        """What quantization does to each layer, measured on the images that calibrated it; see `Quantized`."""
        if not len(self._shown):
            return []
        device = next(self.student.parameters()).device
        with undisturbed(device), torch.no_grad():
            images = self.domain.normalise(self._shown.to(device).float() / 255)
            return layer_report(self.student, images)

    def export(self, path: str | Path) -> ExportInfo:
        """Write the network as an ONNX file of integers: images (N,C,H,W) in [0,1] to logits.

        Needs `pip install rgal[onnx]`. With `placement="deploy"` ONNX Runtime computes all of it in integers, but for
        what `coverage` names.

        Returns:
            What was written: path, megabytes, layers.

        Raises:
            UserError: a library is missing, the run was stopped before it was calibrated, an operator has no form in
                ONNX, or the file cannot be written.
        """
        return export_onnx(self.student, self.domain, _in_a_folder(path))


def _in_a_folder(path: str | Path) -> Path:
    """Return a path to write to. Raises UserError if its folder does not exist."""
    path = Path(path).expanduser()
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist")
    return path
