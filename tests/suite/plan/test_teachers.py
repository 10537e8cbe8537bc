"""A seed includes its teacher: which teacher a trial distils from, how it is trained, and what it is called."""

from __future__ import annotations

from pathlib import Path

from rgal.suite.plan.expansion import teacher_recipe
from rgal.suite.plan.settings import Suite, load_suite
from rgal.suite.pretraining import Pretraining
from rgal.suite.running.runner import make_plan
from rgal.suite.running.session import ready_teachers
from rgal.suite.store.folders import Store
from tests.helpers.suites import DFQ_SUITE, SUITE, suite

SEEDS = {"seeds": [0, 1, 2, 3], "methods": ["plain", "rgal"]}


def keys(suite: Suite) -> dict[tuple[str, int], str]:
    return {(trial.method, trial.seed): trial.teacher_key for trial in make_plan(suite).trials}


def test_each_seed_has_a_teacher_that_its_methods_share(tmp_path: Path) -> None:
    for text in (SUITE, DFQ_SUITE):
        by_trial = keys(suite(tmp_path, text, **SEEDS))
        assert len(set(by_trial.values())) == 4
        assert all(by_trial["plain", seed] == by_trial["rgal", seed] for seed in range(4))


def test_fewer_teachers_take_turns_and_one_is_that_of_seed_0(tmp_path: Path) -> None:
    every = keys(suite(tmp_path, **SEEDS))
    for count in (1, 2, 3):
        shared = keys(load_suite(tmp_path / "suite.yaml", SEEDS, (f"teachers={count}",)))
        assert shared == {(name, seed): every[name, seed % count] for name, seed in every}


def test_the_seed_of_the_recipe_is_that_of_teacher_0(tmp_path: Path) -> None:
    recipes = (
        load_suite(tmp_path / "suite.yaml", {}, ("teacher_training.seed=7",)) if suite(tmp_path) else None
    )
    assert [teacher_recipe(recipes, Pretraining(), number, 99).seed for number in (0, 2)] == [7, 9]
    assert teacher_recipe(recipes, Pretraining(identity={"seed": 3}), 3, 99).seed == 3  # one of its own


def test_every_missing_teacher_is_one_job(tmp_path: Path) -> None:
    plan = make_plan(suite(tmp_path, **SEEDS))
    jobs, kept = ready_teachers(plan, Store(tmp_path / "results"), plan.trials, fresh=False)
    assert not kept and [job.recipe.seed for job in jobs] == [0, 1, 2, 3]
    assert [job.title for job in jobs] == [f"teacher wrn10_1 on digits (seed {seed})" for seed in range(4)]
