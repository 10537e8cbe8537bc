"""The run over the phases of class-incremental learning, which is one transfer after the other.

In each phase the model so far is frozen, a copy of it grows new outputs and learns them, and the test set is scored
once.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.observe import batch_norms
from rgal.core.problem import Problem, freeze
from rgal.core.seeding import Streams
from rgal.engine.batches import PoolSupply
from rgal.engine.evaluation import hits
from rgal.engine.options import Hooks, Position, Row, RunOptions
from rgal.engine.run import TransferRun
from rgal.nets.checkpoint import save_weights
from rgal.suite.store.folders import write_json
from rgal.suite.task import Job
from rgal.synthesis.pool import ImagePool
from rgal.tasks.class_incremental.closing import Closing
from rgal.tasks.class_incremental.groups import (
    IncrementalAugmentation,
    IncrementalBatches,
    IncrementalTermData,
)
from rgal.tasks.class_incremental.head import (
    FirstOutputs,
    extractor_parameters,
    growing_head,
)
from rgal.tasks.class_incremental.metrics import accuracy, summary
from rgal.tasks.class_incremental.phases import NewClasses, Phases, seen_test
from rgal.tasks.class_incremental.spec import spec_of
from rgal.tasks.class_incremental.statistics import ClassStatistics

SHOWN = 8  # replayed images of each class that a phase keeps to look at


class IncrementalRun:
    """Run the phases 1 to T of a job; the job's teacher is the model of the first phase, 0.

    Between two calls of `advance`, the state is the number of the phase, the counts, what is kept of old classes, the
    old model, and the transfer of the current phase.

    Raises:
        TypeError: the job has no phases.
    """

    def __init__(self, job: Job) -> None:
        if not isinstance(job.task_data, Phases | NewClasses):
            raise TypeError("the job has no phases")
        self.phases: Phases | NewClasses = job.task_data
        self.job, self.recipe, self.spec = job, job.recipe, spec_of(job.recipe)
        self.protocol, self.domain = self.phases.protocol, job.problem.domain
        self.test = None if job.test is None else seen_test(job.test, self.protocol)
        self.device = job.problem.device
        self.counts: list[list[tuple[int, int]]] = []
        self.statistics = ClassStatistics()
        self.generator: dict[str, Any] | None = None
        self.spent: dict[str, float] = {
            "images": 0, "synthesis_steps": 0, "student_steps": 0, "synthesis_seconds": 0.0, "student_seconds": 0.0,
            "synthesis_cpu_seconds": 0.0, "student_cpu_seconds": 0.0,
        }  # fmt: skip
        self.shown: list[tuple[Tensor, Tensor]] = []  # images and labels of each phase
        self.phase = 0
        self.student = job.problem.teacher
        growing_head(self.student)
        if self.spec.base_rotations:
            self.student = copy.deepcopy(self.student)
            growing_head(self.student).keep_every(self.spec.base_outputs)
        self.transfer: TransferRun | None = None

    # The machine ------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether all phases are complete."""
        return self.transfer is None and self.phase >= self.protocol.phases

    def advance(self) -> list[Row]:
        """Do one step of the phase's transfer, or go on to the next phase. Returns the metric rows that result."""
        if not self.counts:
            return [self._row({"kind": "evaluation"} | self._close_phase(self.student))]
        if self.transfer is None:
            self.phase += 1
            self._open_phase()
        assert self.transfer is not None
        if self.transfer.mode == "student" and self.transfer.progress.fraction >= self.spec.refine:
            self._freeze_extractor()
        rows = [self._row(row) for row in self.transfer.advance()]
        if self.transfer.finished:
            self._take_up(self.transfer)
            self.transfer = None
        return rows

    def _open_phase(self) -> None:
        """Freeze the model and let a copy of it grow by the new classes."""
        old = self.student
        freeze(old)
        self.student = copy.deepcopy(old).requires_grad_(True)
        seed = (*self.job.trial.seed_parts(), "head", self.phase)
        growing_head(self.student).add(self.protocol.sizes[self.phase] * self.spec.outputs, *seed)
        self._freeze_parts()
        self.transfer = self._transfer_run(old)

    def _transfer_run(self, old: nn.Module) -> TransferRun:
        """Return the transfer of the phase from the old model to the new one."""
        old_classes = self.protocol.seen(self.phase - 1)
        problem = Problem(old, replace(self.domain, classes=old_classes), self.device)
        images = self.phases.open(self.phase)
        real = ImagePool(self.domain.shape, self.device)
        real.add(images.images, images.labels)
        streams = Streams(self.device, *self.job.streams.parts, "phase", self.phase)
        size, per_class = self.recipe.rounds.batch, self.recipe.per_class
        hooks = Hooks(
            train_mode=self._train_mode,
            student_seen_by_synthesis=FirstOutputs(self.student, old_classes * self.spec.outputs),
            batches=partial(IncrementalBatches, PoolSupply(real, streams, size, per_class, real=True)),
            augmentation=IncrementalAugmentation(self.recipe.student_view, rotations=self.spec.rotations),
            task_data=IncrementalTermData(self.statistics),
            progress_within_rounds=True,
        )
        options = RunOptions(self.job.precision, self.recipe.rounds.count)
        transfer = TransferRun(self.recipe, problem, self.student, streams, self._close_phase, options, hooks)
        if self.spec.warm and self.generator is not None and transfer.inversion is not None:
            transfer.inversion.images.attach(0, transfer.streams.get("synthesis"))
            transfer.inversion.images.load_state_dict(self.generator)
        return transfer

    def _train_mode(self, student: nn.Module) -> None:
        student.train(self.spec.learns)
        if "norms" in self.spec.frozen:
            for norm in batch_norms(student):
                norm.eval()

    def _freeze_parts(self) -> None:
        """Freeze what the method never trains after the first phase."""
        if not self.spec.learns:
            self._freeze_extractor()
        if "norms" in self.spec.frozen:
            for norm in batch_norms(self.student):
                norm.requires_grad_(False)
        if "old outputs" in self.spec.frozen:
            for part in list(growing_head(self.student).parts)[:-1]:
                part.requires_grad_(False)

    def _freeze_extractor(self) -> None:
        """Let only the classifier train: no gradient, decay or new batch norm statistics reach what is before it."""
        self.student.eval()
        for parameter in extractor_parameters(self.student):
            parameter.requires_grad_(False)
            parameter.grad = None

    def _close_phase(self, student: nn.Module) -> dict[str, float]:
        """Bring the statistics of classes up to date, then score the test images once, if there are any."""
        spec, labels = self.spec, self.protocol.labels(self.phase)
        closing = Closing(spec, self.phase, labels, self.domain, self.job.precision, self.job.streams.parts)
        if spec.keeps:
            real = self.phases.open(self.phase)
            old = None if self.transfer is None else self.transfer.problem.teacher
            terms = {} if self.transfer is None else dict(self.transfer.loop.objective.terms.items())
            self.statistics = closing.statistics(self.statistics, real, student, old, terms)
        if self.phase == self.protocol.phases:  # until then, the next phase learns from what was trained
            closing.assign(self.statistics, student)
        if self.test is None:
            self.counts.append([])
            return {}
        test = self.test.subset(self.test.labels < self.protocol.seen(self.phase))
        shown = closing.shown(self.statistics, student)
        right = hits(shown, test.images, test.labels, self.domain, self.job.precision)
        tasks = [self.protocol.labels(t) for t in range(self.phase + 1)]
        members = [(test.labels >= t.start) & (test.labels < t.stop) for t in tasks]
        self.counts.append([(int(right[rows].sum()), int(rows.sum())) for rows in members])
        return {"top1": accuracy(self.counts, self.phase)}

    def _take_up(self, transfer: TransferRun) -> None:
        """Keep what a finished transfer leaves: its costs, some replayed images, a generator that goes on."""
        self.spent = self._spent(transfer)
        if transfer.inversion is not None:
            self.shown.append(_newest(transfer.pool))
            if self.spec.warm:
                self.generator = transfer.inversion.images.state_dict()
        freeze(self.student)

    def _spent(self, transfer: TransferRun) -> dict[str, float]:
        """Return the costs of the run so far, those of the current transfer included."""
        now: dict[str, float] = {"images": transfer.images}
        now |= {f"{kind}_steps": steps for kind, steps in transfer.schedule.steps.items()}
        now |= transfer.clock.costs()
        return {name: value + now[name] for name, value in self.spent.items()}

    # Reporting --------------------------------------------------------------------------------------------------

    def _row(self, row: Row) -> Row:
        """Return a metric row with its phase, and with the costs of the whole run in place of the transfer's."""
        costs = {name: round(value + row.get(name, 0), 3) for name, value in self.spent.items()}
        number = {"round": self.phase} if row["kind"] == "evaluation" else {}
        return row | {"phase": self.phase} | number | costs

    def position(self) -> Position:
        """Return how far the run is and how long the rest will take."""
        total, transfer = self.protocol.phases, self.transfer
        spent = self.spent if transfer is None else self._spent(transfer)
        steps = {kind: count * total for kind, count in self.recipe.total_steps().items()}
        left = {kind: count - spent[f"{kind}_steps"] for kind, count in steps.items()}
        timed = [kind for kind in left if spent[f"{kind}_steps"]]
        remaining = sum(left[k] * spent[f"{k}_seconds"] / spent[f"{k}_steps"] for k in timed)
        untimed = any(count and kind not in timed for kind, count in left.items())
        within = None if transfer is None else transfer.position()
        done = (self.phase if within is None else self.phase - 1 + within.done) / total
        name = "evaluation" if within is None else within.mode
        return Position(name, self.phase, total, done, remaining, untimed, "phase")

    def loss(self) -> float | None:
        """Return the mean total loss of the current kind of step so far, or None between two phases."""
        return None if self.transfer is None else self.transfer.loss()

    def result(self) -> dict[str, Any]:
        """Return the final numbers of the run, for result.json."""
        kept = self.statistics.megabytes() + _megabytes(self.generator)
        numbers = summary(self.counts)
        return {
            **numbers,
            "best": numbers["last"],
            "data_free": self.recipe.data_free,
            "protocol": self.protocol.name,
            "memory_mb": round(kept, 6),
            **{name: round(value, 2) for name, value in self.spent.items()},
        }

    def save(self, folder: Path) -> None:
        """Write the model and the counts of each phase into the trial's folder."""
        save_weights(self.student, folder / "student.safetensors")
        phases = [
            {"phase": t, "classes": self.protocol.seen(t), "tasks": [list(pair) for pair in row]}
            for t, row in enumerate(self.counts)
        ]
        write_json(folder / "phases.json", {"phases": phases, "order": list(self.protocol.order)})

    def illustrate(self, folder: Path) -> None:
        """Draw the images that were replayed into the trial's folder."""
        from rgal.analysis.grids import write_replay_grid  # it loads matplotlib

        if self.shown:
            names = [self.job.class_names[c] for c in self.protocol.order] if self.job.class_names else []
            write_replay_grid(folder / "samples.png", self.shown, names)

    # State ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on."""
        transfer = self.transfer
        return {
            "phase": self.phase,
            "counts": [[list(pair) for pair in row] for row in self.counts],
            "statistics": self.statistics.tensors(),
            "generator": self.generator,
            "spent": dict(self.spent),
            "shown": list(self.shown),
            "old": None if transfer is None else transfer.problem.teacher.state_dict(),
            "old_unit": None if transfer is None else growing_head(transfer.problem.teacher).unit,
            "student": self.student.state_dict() if transfer is None else None,
            "student_unit": growing_head(self.student).unit,
            "transfer": None if transfer is None else transfer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored state. The run must have just been made, from the same job as the stored one."""
        self.counts = [[(int(a), int(b)) for a, b in row] for row in state["counts"]]
        self.statistics, self.generator = ClassStatistics(**state["statistics"]), state["generator"]
        self.spent, self.shown = self.spent | state["spent"], [tuple(pair) for pair in state["shown"]]  # type: ignore[misc]
        self.phase = int(state["phase"])
        open_phase = state["transfer"] is not None
        for phase in range(1, self.phase + (not open_phase)):
            growing_head(self.student).add(self.protocol.sizes[phase] * self.spec.outputs, phase)
        if open_phase:
            growing_head(self.student).unit = bool(state["old_unit"])
            self.student.load_state_dict(state["old"])
            self._open_phase()
            assert self.transfer is not None
            self.transfer.load_state_dict(state["transfer"])
        else:
            self.student.load_state_dict(state["student"])
        growing_head(self.student).unit = bool(state["student_unit"])


def _newest(pool: ImagePool) -> tuple[Tensor, Tensor]:
    """Return the last SHOWN images of each label, and the labels, on the host."""
    rows = [(pool.targets == label).nonzero()[-SHOWN:, 0] for label in pool.targets.unique()]
    index = torch.cat(rows) if rows else torch.empty(0, dtype=torch.int64, device=pool.device)
    return pool.images[index].cpu(), pool.targets[index].cpu()


def _megabytes(value: Any) -> float:
    """Return the size of all tensors in a nested state, in MB (10^6 bytes)."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size() / 1e6
    if isinstance(value, dict):
        return sum(map(_megabytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_megabytes, value))
    return 0.0
