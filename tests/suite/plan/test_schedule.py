"""Budgets in place of published numbers, and methods on a task that they were not written for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rgal.core.errors import UserError
from rgal.core.optimiser import SGD
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import methods, resolve
from rgal.suite.plan.budget import apply_schedule
from rgal.suite.plan.settings import Schedule
from rgal.suite.task import tasks

LONG = Schedule(rounds=7, warmup=2, synthesis_steps=11, student_steps=13, synthesis_batch=17, batch=18)


def rounds(method: str, schedule: Schedule = LONG) -> Rounds:
    return apply_schedule(resolve(method).recipe, schedule, method).rounds


def weights(recipe: Recipe) -> dict[str, float]:
    return {w.name: w.weight for w in recipe.transfer}


# Schedules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", methods())
def test_an_empty_schedule_changes_nothing(method: str) -> None:
    recipe = resolve(method).recipe
    assert apply_schedule(recipe, Schedule(), method) == recipe


def test_an_ordinary_recipe_takes_all_numbers() -> None:
    assert rounds("plain") == Rounds(7, 11, 13, 17, 18, 2)
    assert rounds("rgal") == Rounds(7, 11, 13, 17, 9, 2)  # pairs: half as many images, twice
    changed = apply_schedule(resolve("plain").recipe, Schedule(student_lr=0.5, synthesis_lr=0.25), "plain")
    assert (changed.student.lr, changed.optimiser.lr) == (0.5, 0.25)


def test_interleaved_recipes_stay_interleaved() -> None:
    assert rounds("gdfq") == Rounds(7, 11, 13, 17, 18, 2, interleaved=True)
    assert rounds("gdfq", Schedule(student_steps=5)) == Rounds(400, 200, 5, 200, 200, 4, interleaved=True)


@pytest.mark.parametrize("method", ["naive", "real_calibration", "zeroq"])
def test_recipes_that_never_train_have_one_round_whatever_the_budget(method: str) -> None:
    planned = rounds(method)
    assert (planned.count, planned.student_steps, planned.warmup) == (1, 0, 0)
    assert (planned.synthesis_batch, planned.batch) == (17, 18)
    assert planned.synthesis_steps == (11 if method == "zeroq" else 0)


def test_their_own_number_of_rounds_stays() -> None:
    recipe = replace(resolve("zeroq").recipe, rounds=Rounds(3, 5, 0))
    assert apply_schedule(recipe, LONG, "three").rounds == Rounds(3, 11, 0, 17, 18)


def test_recipes_without_synthesis_steps_have_none_whatever_the_budget() -> None:
    for method in ("naive", "real_calibration", "real_finetune", "real_kd", "scratch"):
        assert rounds(method).synthesis_steps == 0
    noisy = replace(resolve("naive").recipe, rounds=Rounds(4, 0, 6))
    assert apply_schedule(noisy, LONG, "noisy").rounds == Rounds(7, 0, 13, 17, 18, 2)


def test_real_images_need_no_warm_up() -> None:
    planned = rounds("real_finetune")
    assert (planned.count, planned.student_steps, planned.warmup) == (7, 13, 0)


def test_a_published_warm_up_shrinks_with_the_rounds_and_a_given_one_does_not() -> None:
    assert rounds("gdfq", Schedule(rounds=10)).warmup == 4
    assert rounds("gdfq", Schedule(rounds=3)).warmup == 2
    assert rounds("gdfq", Schedule(rounds=1)).warmup == 0
    for schedule in (Schedule(rounds=3, warmup=3), Schedule(rounds=1, warmup=5)):
        with pytest.raises(UserError, match="leaves no round for the student") as caught:
            rounds("gdfq", schedule)
        assert "\n" not in str(caught.value)


def test_a_generators_width_is_set_and_other_images_have_none() -> None:
    for method in methods():
        recipe = resolve(method).recipe
        images: Any = apply_schedule(recipe, Schedule(generator_width=3), method).images
        if hasattr(recipe.images, "width"):
            assert images == replace(images, width=3) and type(images) is type(recipe.images)
        else:
            assert images == recipe.images


# Methods on other tasks -----------------------------------------------------------------------------------------

DFQ_STUDENT = SGD(1e-4, nesterov=True, schedule="quarters")


@pytest.mark.parametrize("method", ["cmi", "plain", "deepinversion"])
def test_methods_of_distillation_are_adapted_to_quantization(method: str) -> None:
    """Their images and their distillation; the labels and the optimiser of GDFQ."""
    own, adapted = resolve(method).recipe, tasks()["dfq"].recipe(method, Schedule()).recipe
    assert weights(adapted) == {**weights(own), "ce": 1.0} == {"kd": 1.0, "ce": 1.0}
    assert adapted.student == DFQ_STUDENT != own.student
    same = tasks()["dfq"].adapt(own)
    assert same.transfer[:-1] == own.transfer
    assert replace(same, transfer=own.transfer, student=own.student) == own


@pytest.mark.parametrize("method", ["rgal", "plain+rgal"])
def test_rgal_on_quantization_has_the_tasks_defaults(method: str) -> None:
    adapted = tasks()["dfq"].recipe(method, Schedule()).recipe
    assert weights(adapted) == {"kd": 1.0, "cd": 0.0, "gram": 0.0, "gather": 0.1, "ce": 1.0}
    assert not adapted.pairs and adapted.per_class == 4 and adapted.student == DFQ_STUDENT


@pytest.mark.parametrize(
    "method", [name for name, registered in methods().items() if registered.tasks[0] == "dfq"]
)
def test_methods_of_quantization_are_left_alone(method: str) -> None:
    adapted, own = tasks()["dfq"].recipe(method, Schedule()).recipe, resolve(method).recipe
    assert (adapted.student, adapted.rounds, adapted.images) == (own.student, own.rounds, own.images)
    assert weights(adapted) == weights(own)


def test_gdfq_is_unchanged_and_takes_rgal() -> None:
    plain, plus = (tasks()["dfq"].recipe(name, Schedule()).recipe for name in ("gdfq", "gdfq+rgal"))
    assert weights(plain) == {"kd": 1.0, "ce": 1.0} and plain.student == DFQ_STUDENT
    assert plain.source == "batch" and plain.rounds.interleaved and plain.per_class == 0
    assert [w.name for w in plus.transfer] == ["kd", "ce", "cd", "gram", "gather"]
    assert plus.per_class == 4 and plus.student == plain.student and plus.rounds == plain.rounds


@pytest.mark.parametrize(
    "method", [name for name, registered in methods().items() if "kd" in registered.tasks]
)
def test_distillation_leaves_its_methods_alone(method: str) -> None:
    adapted, own = tasks()["kd"].recipe(method, Schedule()).recipe, resolve(method).recipe
    assert (adapted.student, adapted.rounds, weights(adapted)) == (own.student, own.rounds, weights(own))


def test_a_suites_numbers_go_before_what_adapting_sets() -> None:
    schedule = Schedule(student_lr=0.01, rounds=3, parameters={"bn": 5.0})
    adapted = tasks()["dfq"].recipe("cmi", schedule)
    assert adapted.name == "cmi" and adapted.recipe.rounds.count == 3
    assert adapted.recipe.student == replace(DFQ_STUDENT, lr=0.01)
    assert {w.name: w.weight for w in adapted.recipe.synthesis}["bn"] == 5.0
