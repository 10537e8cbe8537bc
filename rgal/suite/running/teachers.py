"""Teachers: given as a weights file, or trained once on demand with a visible recipe and kept by key."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rgal import nets
from rgal.core.files import check_may_write, slug
from rgal.core.optimiser import SGD
from rgal.core.precision import Precision, place
from rgal.core.problem import Domain
from rgal.core.seeding import Streams, global_seed
from rgal.data import Dataset
from rgal.engine.batches import StudentBatch
from rgal.engine.evaluation import top1
from rgal.engine.options import Diverged, Position, Row
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.nets.checkpoint import load_weights, save_weights
from rgal.suite.plan.settings import TeacherRecipe
from rgal.suite.pretraining import Pretraining
from rgal.suite.running.drive import ProgressMessage, drive
from rgal.suite.running.teacher_check import check_answers, check_given
from rgal.suite.store.folders import read_json, write_json
from rgal.synthesis.pool import ImagePool


def build_net(name: str, domain: Domain, device: torch.device, *seed: object, outputs: int = 1) -> nn.Module:
    """Build a network of this name for a domain, initialised from the seed parts. outputs: logits a class."""
    with global_seed(*seed):
        net = nets.build(name, domain.classes * outputs, domain.shape[0], domain.shape[1:])
    return place(net, device)


class TeacherRun:
    """Trains a network on the real training images of a data set, through the student loop."""

    def __init__(
        self,
        name: str,
        dataset: Dataset,
        domain: Domain,
        recipe: TeacherRecipe,
        precision: Precision,
        device: torch.device,
        purpose: Pretraining,
    ) -> None:
        parts = ("teacher", dataset.spec.name, name, recipe.seed)
        self.net = build_net(name, domain, device, *parts, outputs=purpose.outputs)
        self.purpose = purpose
        self.dataset, self.domain, self.recipe, self.precision = dataset, domain, recipe, precision
        self.streams = Streams(device, *parts)
        self.pool = ImagePool(domain.shape, device)
        train = dataset.train
        self.pool.add(train.images, train.labels)
        spec = purpose.optimiser or SGD(
            recipe.lr, weight_decay=recipe.weight_decay, nesterov=True, lr_warmup=recipe.lr_warmup
        )
        self.loop = StudentLoop(
            {"student": self.net},
            domain,
            StudentSpec(purpose.terms, spec, recipe.steps, purpose.augmentation),
            self.streams,
            precision,
        )
        self.net.train()
        self.every = max(1, recipe.steps // 20)
        self.seconds, self._mark = 0.0, time.perf_counter()

    @property
    def finished(self) -> bool:
        return self.loop.steps >= self.recipe.steps

    def advance(self) -> list[Row]:
        images, labels = self.pool.sample(self.recipe.batch, self.streams.get("batches"))
        self.loop.step(StudentBatch(images, labels))
        if self.loop.steps % self.every and not self.finished:
            return []
        self._lap()
        row = {"kind": "teacher", "student_steps": self.loop.steps, "student_seconds": round(self.seconds, 3)}
        losses = self.loop.meter.take()
        if not math.isfinite(losses["total"]):
            raise Diverged(
                f"the teacher's loss became {losses['total']} in step {self.loop.steps}; lower teacher_training.lr"
            )
        row |= losses | ({"top1": self.measure()} if self.dataset.has_test else {})
        self._mark = time.perf_counter()
        return [row]

    def _lap(self) -> None:
        now = time.perf_counter()
        self.seconds, self._mark = self.seconds + now - self._mark, now

    def measure(self) -> float:
        """Return top-1 in percent; NaN where there are no test images."""
        if not self.dataset.has_test:
            return math.nan
        test = self.dataset.test
        net = self.purpose.evaluated(self.net)
        return top1(net, test.images, test.labels, self.domain, self.precision)

    def position(self) -> Position:
        done = self.loop.steps / self.recipe.steps
        elapsed = self.seconds + time.perf_counter() - self._mark
        return Position(
            "training", self.loop.steps, self.recipe.steps, done, elapsed * (1 - done) / done, unit="step"
        )

    def loss(self) -> float | None:
        return self.loop.meter.peek("total")

    def state_dict(self) -> dict[str, Any]:
        self._lap()
        return {
            "loop": self.loop.state_dict(),
            "streams": self.streams.state_dict(),
            "pool": self.pool.state_dict(contents=False),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loop.load_state_dict(state["loop"])
        self.streams.load_state_dict(state["streams"])
        self.pool.load_state_dict(state["pool"])
        self.seconds, self._mark = float(state["seconds"]), time.perf_counter()


def teacher_files(root: Path, name: str, dataset: str, key: str) -> tuple[Path, Path, Path]:
    """Name (weights, record, working folder) of a teacher in a results directory."""
    stem = slug(f"{dataset}-{name}-{key}")
    folder = root / "teachers"
    return folder / f"{stem}.safetensors", folder / f"{stem}.json", folder / f"{stem}.work"


def import_teacher(
    root: Path, name: str, dataset: Dataset, domain: Domain, key: str, weights: Path, allow_weak: bool = False
) -> float:
    """Check a user's weights file, measure it, and keep a copy in the results directory.

    Args:
        root: the results directory.
        name, key: of the network; names the teacher among those of the same network and data.
        dataset, domain: of the classes that the teacher is for.
        weights: the user's file.
        allow_weak: whether it may be hardly better than chance.

    Returns:
        Top-1 in percent; NaN where there are no test images.

    Raises:
        UserError: the weights do not fit the network, or their accuracy is near chance.
    """
    stored, record, _ = teacher_files(root, name, dataset.spec.name, key)
    if not dataset.has_test:
        net = build_net(name, domain, torch.device("cpu"), 0)
        load_weights(net, weights, domain.classes)
        check_answers(net, weights, domain)
        save_weights(net, stored)
        write_json(record, {"net": name, "dataset": dataset.spec.name, "weights": str(weights)})
        return math.nan
    if imported := read_json(record):
        accuracy = float(imported["top1"])
        if not allow_weak:
            check_given(weights, dataset.spec.name, accuracy, domain.classes)
        return accuracy
    net = build_net(name, domain, torch.device("cpu"), 0)
    if note := load_weights(net, weights, domain.classes):
        print(f"{weights}: {note}", file=sys.stderr)
    accuracy = top1(net, dataset.test.images, dataset.test.labels, domain)
    if not allow_weak:
        check_given(weights, dataset.spec.name, accuracy, domain.classes)
    save_weights(net, stored)
    write_json(record, {"top1": accuracy, "net": name, "dataset": dataset.spec.name, "weights": str(weights)})
    return accuracy


@dataclass(frozen=True)
class TeacherSpec:
    """A teacher that is to be trained.

    Attributes:
        root: the results directory.
        net, key: name of the network; names the teacher among those of the same network and data.
        dataset, domain: of the classes that it is for.
        fingerprint: of the code that trains it.
    """

    root: Path
    net: str
    key: str
    dataset: Dataset
    domain: Domain
    recipe: TeacherRecipe
    precision: Precision
    device: torch.device
    purpose: Pretraining
    fingerprint: str


def train_teacher(
    spec: TeacherSpec, report: Callable[[ProgressMessage], None], stop: Callable[[], bool]
) -> float | None:
    """Train a teacher, or go on where a stopped training was, and store it in place of the one that was there.

    Args:
        spec: what to train.
        report: told of progress.
        stop: whether to stop, asked after every step.

    Returns:
        Its last top-1 in percent, NaN where there are no test images; or None if stopped.
    """
    stored, record, work = teacher_files(spec.root, spec.net, spec.dataset.spec.name, spec.key)
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, begun = work / "checkpoint.pt", work / "begun.json"
    if (read_json(begun) or {}).get("fingerprint") != spec.fingerprint:
        checkpoint.unlink(missing_ok=True)  # of other code
        write_json(begun, {"fingerprint": spec.fingerprint})
    run = TeacherRun(
        spec.net, spec.dataset, spec.domain, spec.recipe, spec.precision, spec.device, spec.purpose
    )
    if not drive(run, work, spec.device, report, stop):
        return None
    accuracy = run.measure()
    check_may_write()
    record.unlink(missing_ok=True)  # never the record of one teacher beside the weights of another
    save_weights(run.net, stored)
    result: dict[str, Any] = {} if math.isnan(accuracy) else {"top1": accuracy}
    result |= {"net": spec.net, "dataset": spec.dataset.spec.name}
    result |= {"seconds": round(run.seconds, 2), "fingerprint": spec.fingerprint}
    write_json(record, result | {"recipe": spec.recipe.model_dump(), "precision": spec.precision})
    checkpoint.unlink(missing_ok=True)
    return accuracy


def stored_teacher(
    root: Path,
    name: str,
    dataset_name: str,
    domain: Domain,
    key: str,
    device: torch.device,
    outputs: int = 1,
) -> tuple[nn.Module, float]:
    """Load a trial's teacher, which must have been trained or imported before: the network, its top-1 in percent."""
    stored, record, _ = teacher_files(root, name, dataset_name, key)
    net = build_net(name, domain, device, 0, outputs=outputs)
    load_weights(net, stored, domain.classes * outputs)
    accuracy = (read_json(record) or {}).get("top1")
    return net, math.nan if accuracy is None else float(accuracy)
