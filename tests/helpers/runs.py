"""Tiny runs of every shape of recipe, and what a finished one has to show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.engine.options import Hooks, Row, RunOptions
from rgal.engine.run import TransferRun
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import resolve
from rgal.synthesis.generators import FreshGenerator, PersistentGenerator
from rgal.synthesis.loop import Inversion
from rgal.synthesis.meta import MetaGenerator
from rgal.synthesis.pool import ImagePool
from rgal.terms.objective import Progress
from tests.helpers import small

ROUNDS = Rounds(3, synthesis_steps=3, student_steps=2, synthesis_batch=10, batch=8)

TINY = {"latent": 12, "width": 4}


def shrunk(recipe: Recipe, **changes: Any) -> Recipe:
    images = replace(recipe.images, **TINY) if isinstance(recipe.images, FreshGenerator) else recipe.images
    return replace(recipe, **{"images": images, "rounds": ROUNDS, **changes})


def named(method: str, **changes: Any) -> Recipe:
    return shrunk(resolve(method).recipe, **changes)


def interleaved(images: PersistentGenerator) -> Recipe:
    """One generator step, two student steps on its fresh draws: the shape of DAFL and ZSKT."""
    return shrunk(
        resolve("plain").recipe, images=images, source="generator", rounds=replace(ROUNDS, synthesis_steps=1)
    )


RECIPES = {
    "plain": named("plain"),
    "rgal": named("rgal"),
    "rgal, all terms": named("rgal[gram=0.1,fmix=true,follows=code,custom_steps=0.5]"),
    "cmi": named("cmi[bank=16]"),
    "cmi+rgal": named("cmi[bank=16]+rgal"),
    "deepinversion": named("deepinversion"),
    "last": named("plain", keep="last"),
    "warm-up": named("rgal", rounds=replace(ROUNDS, warmup=1)),
    "persistent generator": interleaved(PersistentGenerator(**TINY)),
    "fomaml": named("plain", images=MetaGenerator(**TINY)),
    "reptile": named("plain", images=MetaGenerator(**TINY, form="reptile")),
}

# A round is 3 steps + close + 2 steps + close = 7 calls.
STOPS = (1, 3, 4, 5, 7, 9, 13)


def make_problem() -> Problem:
    return small.problem(small.GREY, "wrn10_2")


@cache
def shared_problem() -> Problem:
    """One teacher for all; that nobody writes to it has a test of its own."""
    return make_problem()


def measure(student: nn.Module) -> dict[str, float]:
    return {"checksum": float(sum(p.detach().double().sum() for p in student.parameters()))}


def make_run(recipe: Recipe, problem: Problem | None = None, **options: Any) -> TransferRun:
    """A run of a small student; `options`: fields of RunOptions and of Hooks."""
    own = {field.name for field in fields(RunOptions)} & set(options)
    settings = RunOptions(**{name: options.pop(name) for name in own})
    streams, student = Streams("cpu", "stage", 0), small.student(small.GREY)
    return TransferRun(
        recipe, problem or shared_problem(), student, streams, measure, settings, Hooks(**options)
    )


def untimed(rows: Iterable[Row]) -> list[Row]:
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in rows]


@dataclass
class Outcome:
    """All that a finished run has to show."""

    student: dict[str, Tensor]
    pool: tuple[Tensor, Tensor]
    rows: list[Row]

    def assert_same(self, other: Outcome) -> None:
        small.assert_same(self.student, other.student, "student")
        small.assert_same(self.pool, other.pool, "pool")
        small.assert_same(self.rows, other.rows, "rows")


def finish(transfer: TransferRun, rows: list[Row] | None = None) -> Outcome:
    rows = list(rows or [])
    while not transfer.finished:
        rows += transfer.advance()
    pool = (transfer.pool.images.clone(), transfer.pool.targets.clone())
    return Outcome(small.snapshot(transfer.student), pool, untimed(rows))


@dataclass
class Reference:
    """A whole run with a teacher of its own, and what that teacher was before."""

    outcome: Outcome
    teacher: nn.Module
    teacher_before: dict[str, Tensor]


@cache
def whole_run(name: str) -> Reference:
    problem = make_problem()
    before = small.snapshot(problem.teacher)
    return Reference(finish(make_run(RECIPES[name], problem)), problem.teacher, before)


def reference(name: str) -> Outcome:
    return whole_run(name).outcome


def timeless(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in ("seconds", "cpu_seconds")}


def assert_resumes(recipe: Recipe, stops: Iterable[int]) -> Outcome:
    """A run stopped before its k-th call and taken up from a file goes on bit for bit, for several k.

    Each is followed up to the next stop only, where it must be in the state that the whole run had there, and the last
    one to the end: what follows from one state is the same.

    Returns:
        What the whole run has to show.
    """
    whole, rows, states = make_run(recipe), list[Row](), {}
    calls = 0
    while not whole.finished:
        if calls in stops:
            states[calls] = (small.reloaded(whole.state_dict()), len(rows))
        rows += whole.advance()
        calls += 1
    states[calls] = (whole.state_dict(), len(rows))
    expected = finish(whole, rows)
    for (stop, (state, told)), (end, (later, until)) in pairwise(states.items()):
        again = make_run(recipe)
        again.load_state_dict(state)
        if stop:  # else no stream has been drawn from, and a new run has more of them
            small.assert_same(timeless(again.state_dict()), timeless(state), f"taken up at call {stop}")
        more = [row for _ in range(end - stop) for row in again.advance()]
        small.assert_same(untimed(more), untimed(rows[told:until]), f"rows from call {stop} on")
        small.assert_same(timeless(again.state_dict()), timeless(later), f"from call {stop} to {end}")
    finish(again, rows[:told] + more).assert_same(expected)
    return expected


def real_pool() -> ImagePool:
    pool = ImagePool(small.GREY.shape)
    pool.add(small.rand(20, *small.GREY.shape), torch.arange(20) % 4)
    return pool


def recorded(recipe: Recipe, steps: int) -> tuple[Inversion, list[Tensor], list[float]]:
    """An inversion after `steps` steps of round one, with every iterate and its total loss."""
    problem, student = make_problem(), small.student(small.GREY).eval().requires_grad_(False)
    inversion = Inversion(recipe.inversion(), problem, {"student": student}, Streams("cpu", "kept"), "fp32")
    iterates: list[Tensor] = []
    make = inversion.images.images

    def images() -> Tensor:
        made = make()
        iterates.append(made.detach().clone())
        return made

    inversion.images.images = images  # type: ignore[method-assign]
    inversion.begin()
    totals = []
    for _ in range(steps):
        inversion.step(Progress())
        totals.append(inversion.meter.take()["total"])
    return inversion, iterates, totals
