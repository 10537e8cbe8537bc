"""What a user gives in a method's brackets goes before a budget, or is refused where all methods are told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgal.api.budgets import suite_of
from rgal.core.errors import UserError
from rgal.methods.registry import methods, resolve
from rgal.suite.plan.explicit import given_numbers, schedule_numbers
from rgal.suite.plan.planned import plan_method
from rgal.suite.plan.settings import Schedule, load_suite
from rgal.suite.plan.trial import Trial
from rgal.suite.running.runner import make_plan
from rgal.suite.task import tasks, trial_recipe
from tests.helpers.suites import SUITE

DFQ = """
task: dfq
dataset: digits
teacher: resnet8
options: {bits: [w2a2]}
methods: [genie]
budget: small
budgets:
  small: {rounds: 2, student_steps: 3, student_lr: 0.25, synthesis_lr: 0.5, generator_width: 4}
"""


def trials(folder: Path, text: str, *names: str, set_: tuple[str, ...] = ()) -> dict[str, Trial]:
    (folder / "suite.yaml").write_text(text)
    loaded = load_suite(folder / "suite.yaml", {"methods": list(names)}, set_)
    return {trial.method: trial for trial in make_plan(loaded).trials}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("gdfq[student_lr=0.1]", "student_lr"),
        ("gdfq[student_lr=0.0001]", "student_lr"),  # its default, which no name has otherwise
        ("gdfq[lr=0.02]+rgal", "synthesis_lr"),
    ],
)
def test_a_given_number_goes_before_the_budget(name: str, number: str, tmp_path: Path) -> None:
    found = trials(tmp_path, DFQ, "gdfq", name)
    assert set(found) == {"gdfq", name}  # the name keeps what was given
    numbers = {key: schedule_numbers(trial_recipe(trial)) for key, trial in found.items()}
    assert numbers["gdfq"][number] == {"student_lr": 0.25, "synthesis_lr": 0.5}[number]
    assert numbers[name][number] == float(name.split("=")[1].split("]")[0])
    assert numbers[name] | {number: 0} == numbers["gdfq"] | {number: 0}  # and nothing else differs
    assert found[name].key != found["gdfq"].key


def test_steps_of_a_batch_that_are_a_parameter(tmp_path: Path) -> None:
    found = trials(tmp_path, SUITE, "fast", "fast[k=10]", "fast[k=7,lr=0.001,lr_z=0.01]")
    steps = {name: trial_recipe(trial).rounds.synthesis_steps for name, trial in found.items()}
    assert steps == {"fast": 1, "fast[k=10]": 10, "fast[k=7,lr=0.001,lr_z=0.01]": 7}


def test_what_agrees_with_the_budget_changes_nothing(tmp_path: Path) -> None:
    found = trials(tmp_path, DFQ, "gdfq", "gdfq[student_lr=0.25]")
    assert found["gdfq[student_lr=0.25]"].schedule == found["gdfq"].schedule


def test_a_contradiction_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="student_lr=0.1 is its student_lr, which is 0.5 for all methods"
    ) as no:
        trials(tmp_path, DFQ, "gdfq[student_lr=0.1]", set_=("student_lr=0.5",))
    assert "\n" not in str(no.value)
    trials(tmp_path, DFQ, "gdfq[student_lr=0.5]", set_=("student_lr=0.5",))
    swept = DFQ.replace("task: dfq", "task: kd\nstudent: resnet8").replace("options: {bits: [w2a2]}", "")
    with pytest.raises(UserError, match="lr=0.1 is its synthesis_lr, which is 0.3 for all methods here"):
        trials(tmp_path, swept + "sweep: {synthesis_lr: [0.3, 0.4]}\n", "plain[lr=0.1]")


def test_calls_from_python_do_the_same() -> None:
    suite = suite_of("dfq", "small", {})
    resolved, taken = plan_method(tasks()["dfq"], "gdfq[student_lr=0.5]", suite, suite.networks[0], lambda: 1)
    assert resolved.recipe.student.lr == 0.5 and taken.schedule.student_lr is None


def test_every_step_size_of_every_method_is_known_as_one() -> None:
    """A parameter declared as a step size of student or synthesis is found to be that number of the recipe."""
    for name, method in methods().items():
        task = tasks()[method.tasks[0]]
        for key, parameter in method.parameters.items():
            meanings = {
                "learning rate of the student": "student_lr",
                "learning rate of synthesis": "synthesis_lr",
            }
            number = meanings.get(parameter.meaning)
            if number is None:
                continue
            assert given_numbers(task, f"{name}[{key}=0.123]", Schedule()) == {key: (number, 0.123)}, name
    assert given_numbers(tasks()["kd"], "rgal[gram=0,per_class=0]", Schedule()) == {}
    assert schedule_numbers(resolve("plain").recipe)["rounds"] == 200
