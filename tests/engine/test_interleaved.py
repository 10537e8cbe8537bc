"""Rounds whose two kinds of step alternate, and rounds without one of them: order, batches, rows, stop and go."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.core.observe import batch_norms
from rgal.engine.batches import StudentBatch
from rgal.engine.options import SHOWN, Diverged, Row
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import resolve
from rgal.synthesis.generators import ConditionalGenerator
from rgal.synthesis.image_source import Adam
from rgal.synthesis.pool import to_uint8
from rgal.terms.transfer import distillation
from tests.helpers import small
from tests.helpers.runs import TINY, Outcome, assert_resumes, finish, make_run, measure, named, real_pool

BATCH = 6


def alternating(synthesis: int, student: int, count: int = 2, warmup: int = 0, **changes: Any) -> Recipe:
    """The method that trains on the batch just made, with that many steps of each kind a round."""
    rounds = Rounds(
        count, synthesis, student, synthesis_batch=BATCH, batch=8, warmup=warmup, interleaved=True
    )
    recipe = replace(resolve("gdfq").recipe, images=ConditionalGenerator(**TINY), rounds=rounds)
    return replace(recipe, **changes)


@dataclass
class Diary:
    """A finished run and what happened in it, in order: S a batch was made, U the student trained, | a round ended."""

    recipe: Recipe
    evaluate_every: int = 1
    events: str = ""
    made: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    used: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    measured: int = 0

    def __post_init__(self) -> None:
        self.transfer = make_run(self.recipe, on_images=self._on_images, evaluate_every=self.evaluate_every)
        self.transfer.measure = self._measure
        self._train, self.transfer.loop.step = self.transfer.loop.step, self._on_step  # type: ignore[method-assign]
        self.start, self.rows, self.done = small.snapshot(self.transfer.student), list[Row](), [0.0]
        while not self.transfer.finished:
            now = self.transfer.schedule.round
            self.rows += self.transfer.advance()
            self.events += "|" if self.transfer.schedule.round > now else ""
            self.done.append(self.transfer.position().done)

    def _on_images(self, images: Tensor, targets: Tensor) -> None:
        self.events += "S"
        self.made.append((images.clone(), targets.clone()))

    def _on_step(self, batch: StudentBatch, *more: Any) -> Any:
        self.events += "U"
        self.used.append((batch.images.clone(), batch.targets.clone()))
        return self._train(batch, *more)

    def _measure(self, student: nn.Module) -> dict[str, float]:
        self.measured += 1
        return measure(student)

    @property
    def rounds(self) -> list[str]:
        return self.events.split("|")[:-1]

    def kinds(self) -> list[str]:
        return [row["kind"] for row in self.rows]

    def column(self, kind: str, name: str) -> list[Any]:
        return [row[name] for row in self.rows if row["kind"] == kind]


@cache
def diary(synthesis: int, student: int, **rounds: Any) -> Diary:
    return Diary(alternating(synthesis, student, **rounds))


# Order ----------------------------------------------------------------------------------------------------------

ORDERS = {
    (1, 1): "SU",
    (3, 3): "SUSUSU",
    (3, 5): "SUUSUUSU",
    (5, 3): "SUSUSSUS",
    (1, 3): "SUUU",
    (4, 1): "SUSSS",
    (3, 0): "SSS",
}


@pytest.mark.parametrize(("numbers", "order"), ORDERS.items())
def test_steps_alternate(numbers: tuple[int, int], order: str) -> None:
    assert diary(*numbers).rounds == [order, order]


def test_the_order_is_as_even_as_the_numbers_allow() -> None:
    """Neither kind is ever a whole step of its own ahead of the other's share; a student step needs a batch first."""
    for synthesis, student in product(range(1, 8), range(1, 8)):
        transfer = make_run(alternating(synthesis, student, count=1))
        done = {"synthesis": 0, "student": 0}
        while (due := transfer.schedule.due()) is not None:
            done[due] += 1
            transfer.schedule.done[due] += 1
            ahead = done["synthesis"] * student - done["student"] * synthesis
            assert done["synthesis"] and -synthesis < ahead <= student
        assert done == {"synthesis": synthesis, "student": student}


def test_warm_up_rounds_have_no_student_steps() -> None:
    told = Diary(alternating(3, 2, count=3, warmup=2))
    assert told.rounds == ["SSS", "SSS", "SUSUS"]
    assert told.kinds() == ["synthesis", "synthesis", "synthesis", "student", "evaluation"]
    assert told.column("synthesis", "round") == [1, 2, 3] and told.column("evaluation", "round") == [3]
    assert told.column("synthesis", "student_steps") == [0, 0, 2]


# Batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [(3, 5), (5, 3)])
def test_every_synthesis_step_makes_a_batch_of_its_own(numbers: tuple[int, int]) -> None:
    told = diary(*numbers)
    assert len(told.made) == 2 * numbers[0]
    images = torch.cat([images for images, _ in told.made])
    assert len(images) == len(images.flatten(1).unique(dim=0)) == told.transfer.images
    assert len({tuple(targets.tolist()) for _, targets in told.made}) > 1
    for images, targets in told.made:
        assert images.shape == (BATCH, *small.GREY.shape) and images.min() >= 0 and images.max() <= 1
        assert torch.equal(targets, targets.sort().values)


@pytest.mark.parametrize("numbers", [(3, 5), (5, 3), (1, 1)])
def test_the_student_trains_on_exactly_the_last_batch(numbers: tuple[int, int]) -> None:
    """As it is; and `on_images` has been told of it before."""
    told, made = diary(*numbers), 0
    used = iter(told.used)
    for event in told.events:
        made += event == "S"
        if event == "U":
            small.assert_same(next(used), told.made[made - 1])


@pytest.mark.parametrize("numbers", [(3, 5), (5, 3), (1, 1)])
def test_the_pool_keeps_the_last_batch_of_each_round(numbers: tuple[int, int]) -> None:
    """To look at; no more than `SHOWN` of them."""
    told = diary(*numbers)
    last = told.made[numbers[0] - 1 :: numbers[0]]
    assert torch.equal(told.transfer.pool.images, to_uint8(torch.cat([images for images, _ in last])))
    assert torch.equal(told.transfer.pool.targets, torch.cat([targets for _, targets in last]))
    assert told.transfer.pool.capacity == SHOWN


def test_a_student_of_the_pool_finds_every_batch_there() -> None:
    told = Diary(alternating(3, 2, source="pool"))
    assert torch.equal(told.transfer.pool.images, to_uint8(torch.cat([images for images, _ in told.made])))
    assert told.transfer.pool.capacity is None and told.rounds == ["SUSUS", "SUSUS"]
    assert [len(images) for images, _ in told.used] == [8] * 4  # `batch` images, not a synthesised batch


# Rows -----------------------------------------------------------------------------------------------------------


def test_a_round_has_one_row_of_each_kind() -> None:
    told = diary(3, 5)
    assert told.kinds() == ["synthesis", "student", "evaluation"] * 2
    for kind in ("synthesis", "student", "evaluation"):
        assert told.column(kind, "round") == [1, 2]
        assert told.column(kind, "synthesis_steps") == [3, 6]
        assert told.column(kind, "student_steps") == [5, 10]
        assert told.column(kind, "images") == [3 * BATCH, 6 * BATCH]
    assert {"bn", "oh", "total"} <= told.rows[0].keys() and {"kd", "ce", "total"} <= told.rows[1].keys()
    assert told.done[0] == 0 and told.done[-1] == 1 and told.done == sorted(told.done)
    assert all(row["synthesis_seconds"] > 0 and row["student_seconds"] > 0 for row in told.rows)


def test_rows_are_means_over_the_whole_round() -> None:
    """Not over the steps since the last change of mode: the synthesis loss of two steps is the mean of both."""
    told = diary(3, 5)
    assert told.transfer.loop.steps == 10
    transfer, losses = make_run(alternating(2, 1, count=1)), []
    assert transfer.inversion is not None
    add = transfer.inversion.meter.add
    transfer.inversion.meter.add = lambda parts: (losses.append(float(parts["total"])), add(parts))  # type: ignore
    rows = finish(transfer).rows
    assert len(losses) == 2 and rows[0]["total"] == pytest.approx(sum(losses) / 2)


@pytest.mark.parametrize(
    ("count", "warmup", "every", "rounds"),
    [(5, 0, 1, [1, 2, 3, 4, 5]), (5, 0, 2, [2, 4, 5]), (4, 2, 1, [3, 4]), (4, 3, 3, [4]), (3, 0, 9, [3])],
)
def test_evaluations_happen_once_in_each_round_that_is_due(
    count: int, warmup: int, every: int, rounds: list[int]
) -> None:
    for numbers in ((1, 1), (2, 3)):
        told = Diary(alternating(*numbers, count=count, warmup=warmup), evaluate_every=every)
        assert told.column("evaluation", "round") == rounds and told.measured == len(rounds)


# Stop and go ----------------------------------------------------------------------------------------------------

RESUMED = {
    "batch": alternating(2, 3),
    "warm-up": alternating(3, 1, warmup=1),
    "pool": alternating(2, 2, source="pool"),
    "noise": named("naive", transfer=(distillation(),), rounds=Rounds(2, 0, 2, synthesis_batch=8, batch=6)),
    "zeroq": named("zeroq", rounds=Rounds(1, 4, 0, synthesis_batch=8)),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_stopped_at_any_step_ends_with_the_same_bytes(name: str) -> None:
    expected = assert_resumes(RESUMED[name], range(100))
    assert weights(finish(make_run(RESUMED[name]))) == weights(expected)


def weights(outcome: Outcome) -> list[bytes]:
    return [value.numpy().tobytes() for value in outcome.student.values()]


# Rounds without one kind of step --------------------------------------------------------------------------------


def test_rounds_without_synthesis_steps_still_make_images() -> None:
    rounds = Rounds(3, 0, 2, synthesis_batch=10, batch=8)
    told = Diary(named("naive", transfer=(distillation(),), rounds=rounds))
    assert told.rounds == ["SUU"] * 3
    assert told.kinds() == ["student", "evaluation"] * 3
    assert (
        told.column("student", "images") == [10, 20, 30]
        and told.column("student", "synthesis_steps") == [0] * 3
    )
    assert torch.equal(told.transfer.pool.images, to_uint8(torch.cat([images for images, _ in told.made])))
    assert len(told.transfer.pool.images.flatten(1).unique(dim=0)) == 30


@pytest.mark.parametrize("source", ["batch", "pool"])
def test_interleaved_rounds_without_synthesis_steps_make_one_batch(source: Any) -> None:
    told = Diary(alternating(0, 2, warmup=1, source=source))
    assert told.rounds == ["S", "SUU"] and told.kinds() == ["student", "evaluation"]
    assert told.transfer.images == len(told.transfer.pool) == 2 * BATCH
    if source == "batch":
        small.assert_same(told.used, [told.made[1]] * 2)


@pytest.mark.parametrize(
    ("method", "rounds", "kinds", "events"),
    [
        ("naive", Rounds(1, 0, 0, synthesis_batch=4), ["evaluation"], ["S"]),
        ("naive", Rounds(3, 0, 0, synthesis_batch=4), ["evaluation"], ["S", "S", "S"]),
        ("zeroq", Rounds(1, 3, 0, synthesis_batch=4), ["synthesis", "evaluation"], ["S"]),
        ("zeroq", Rounds(2, 3, 0, synthesis_batch=4), ["synthesis", "synthesis", "evaluation"], ["S", "S"]),
    ],
)
def test_a_student_without_steps_is_evaluated_once_and_left_as_it_is(
    method: str, rounds: Rounds, kinds: list[str], events: list[str]
) -> None:
    told = Diary(named(method, rounds=rounds))
    assert told.kinds() == kinds and told.rounds == events and told.measured == 1
    assert told.rows[-1]["round"] == rounds.count and told.rows[-1]["student_steps"] == 0
    assert told.rows[-1]["images"] == 4 * rounds.count
    small.assert_same(small.snapshot(told.transfer.student), told.start)


def test_real_images_without_student_steps_are_evaluated_only() -> None:
    transfer = make_run(named("real_calibration", rounds=Rounds(1, 0, 0, batch=4)), real=real_pool())
    outcome = finish(transfer)
    assert [row["kind"] for row in outcome.rows] == ["evaluation"] and transfer.images == 0


@pytest.mark.parametrize("norms", ["batch", "running"])
def test_a_generator_cannot_run_away_with_a_student_normalised_by_the_batch(norms: Any) -> None:
    """By its running statistics nothing bounds the logits of an untrained student, whose distance CPSC maximises."""
    recipe = named(
        "cpsc",
        student_norms=norms,
        optimiser=Adam(0.005, (0.5, 0.999)),
        rounds=Rounds(1, 18, 15, synthesis_batch=48, batch=48, interleaved=True),
    )
    try:
        (apart,) = [row["apart"] for row in finish(make_run(recipe)).rows if row["kind"] == "synthesis"]
    except Diverged:  # so far that it is no number
        apart = -math.inf
    assert resolve("cpsc").recipe.student_norms == "batch"
    assert (-1e3 < apart < 0) if norms == "batch" else apart < -1e6


@pytest.mark.parametrize("norms", ["batch", "running"])
def test_norms_of_the_batch_move_the_running_ones_and_dropout_stays_off(norms: Any) -> None:
    transfer = make_run(named("cpsc", student_norms=norms))
    trained = [type(m) for m in transfer.student.modules() if m.training]
    assert trained == ([nn.BatchNorm2d] * len(batch_norms(transfer.student)) if norms == "batch" else [])
    before = small.snapshot(transfer.student)
    transfer.advance()
    assert transfer.schedule.steps == {"synthesis": 1, "student": 0}
    after = small.snapshot(transfer.student)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    wanted = {
        n for n in before if n.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert moved == (wanted if norms == "batch" else set())
