"""A suite becomes trials: pairs of networks, swept numbers, exceptions by method, files that extend others."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgal import benchmarks
from rgal.core.errors import UserError
from rgal.data import load
from rgal.methods.names import MethodName
from rgal.suite.plan.budget import schedule_for
from rgal.suite.plan.expansion import expand
from rgal.suite.plan.settings import Budget, Pair, Schedule, load_suite
from rgal.suite.task import tasks
from tests.helpers.suites import PAIRS, SUITE, SWEEP, suite, trials

BENCHMARKS = Path(benchmarks.__file__).parent


def test_pairs(tmp_path: Path) -> None:
    """Each pair is a setting; its exceptions go over the budget's; alone it is the same trial."""
    planned = trials(tmp_path, PAIRS)
    assert [(t.teacher, t.student) for t in planned] == [("wrn10_1", "resnet8"), ("wrn10_1", "lenet5")]
    assert [t.setting for t in planned] == ["digits wrn10_1 -> resnet8", "digits wrn10_1 -> lenet5"]
    assert planned[0].schedule["synthesis_lr"] == 0.5 and planned[0].schedule["parameters"] == {"bn": 2}
    assert "parameters" not in planned[1].schedule
    assert planned[0].teacher_key == planned[1].teacher_key  # one teacher serves both
    (alone,) = trials(tmp_path, PAIRS, teacher="wrn10_1", student="lenet5")
    assert alone.key == planned[1].key


def test_a_sweep(tmp_path: Path) -> None:
    """Each value is a case of a setting of its own, so that no table mixes them with the budget itself."""
    one, two = trials(tmp_path, SWEEP)
    assert (one.case, two.case) == ("8", "16") and (one.case_order, two.case_order) == (0, 1)
    assert (one.schedule["synthesis_batch"], two.schedule["synthesis_batch"]) == (8, 16)
    assert one.case_title == "Synthesis batch"
    assert one.setting == two.setting == "digits wrn10_1 -> resnet8, by synthesis batch"
    (same,) = trials(tmp_path, SUITE)  # whose synthesis_batch is 8
    assert one.key == same.key


def schedule(budget: Budget, pair: Pair, name: str, **swept: int) -> Schedule:
    return schedule_for(budget, pair, swept, MethodName.parse(name)).schedule


def test_what_is_swept_goes_over_exceptions() -> None:
    budget = Budget(
        rounds=3, methods={"cmi": Schedule(rounds=5, synthesis_lr=0.1), "cmi[bn=2]": Schedule(rounds=6)}
    )
    pair = Pair(teacher="a", methods={"cmi": Schedule(synthesis_lr=0.2)})
    plain = Pair(teacher="a")
    assert schedule(budget, plain, "dafl").rounds == 3
    assert schedule(budget, plain, "cmi[oh=1]+rgal") == Schedule(rounds=5, synthesis_lr=0.1)
    assert schedule(budget, plain, "cmi[bn=2]") == Schedule(rounds=6)
    assert schedule(budget, pair, "cmi") == Schedule(rounds=5, synthesis_lr=0.2)
    assert schedule(budget, pair, "cmi", rounds=9) == Schedule(rounds=9, synthesis_lr=0.2)


def test_a_method_with_rgal_has_its_hosts_exceptions() -> None:
    """Those of its host's full name before those of the bare one."""
    budget = Budget(methods={"fast": Schedule(synthesis_steps=5), "fast[k=10]": Schedule(synthesis_steps=10)})
    pair = Pair(teacher="wrn10_1")
    for name, steps in (("fast[k=10]+rgal", 10), ("fast[k=2]+rgal", 5), ("fast+rgal", 5), ("fast[k=10]", 10)):
        assert schedule(budget, pair, name).synthesis_steps == steps


def test_the_command_line_goes_over_exceptions(tmp_path: Path) -> None:
    """`--set rounds=5` is 5 rounds of every method; other exceptions stay, and so do those of other budgets."""
    path = tmp_path / "suite.yaml"
    path.write_text(PAIRS + "\n")
    for budget in ("smoke", "other"):
        exceptions = f"budgets.{budget}.methods={{plain: {{rounds: 7, synthesis_lr: 0.3}}}}"
        loaded = load_suite(path, {}, (exceptions, "rounds=5", "synthesis_lr=0.2"))
        entry = loaded.budgets[budget].methods["plain"]
        kept = Schedule(rounds=7, synthesis_lr=0.3) if budget == "other" else Schedule()
        assert entry == kept
        assert loaded.pairs[0].methods["plain"] == Schedule(parameters={"bn": 2})


def test_parameters_of_budget_and_pair_join() -> None:
    budget = Budget(methods={"cmi": Schedule(parameters={"bn": 1.0, "oh": 2.0})})
    pair = Pair(teacher="a", methods={"cmi": Schedule(parameters={"oh": 3.0})})
    assert schedule(budget, pair, "cmi").parameters == {"bn": 1.0, "oh": 3.0}


def test_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(SUITE)
    child = suite(tmp_path, "extends: base.yaml\nmethods: [cmi]\n", "child.yaml")
    assert child.methods == ("cmi",) and child.teacher == "wrn10_1" and set(child.budgets) == {"smoke"}
    grandchild = suite(tmp_path, "extends: child.yaml\nseeds: [4]\n", "grandchild.yaml")
    assert grandchild.methods == ("cmi",) and grandchild.seeds == (4,)


BAD = {
    "a circle": ("extends: suite.yaml\n", "circle"),
    "another folder": ("extends: ../suite.yaml\n", "expected the name of a file in the same folder"),
    "no base": ("extends: nowhere.yaml\n", "nowhere.yaml: no such file"),
    "networks twice": (PAIRS + "teacher: resnet8\n", "expected a teacher (and student), or pairs"),
    "no networks": (SUITE.replace("teacher: wrn10_1\n", ""), "expected a teacher (and student), or pairs"),
    "a pair twice": (PAIRS.replace("lenet5", "resnet8"), "one stands there twice"),
    "an unknown net": (PAIRS.replace("lenet5", "lenet55"), "did you mean 'lenet5'"),
    "weights for all": (PAIRS + "teacher_weights: x.pth\n", "choose a pair"),
    "a pair's method": (
        PAIRS.replace("{plain:", "{plane:"),
        "pairs.0.methods: unknown method 'plane'; did you mean 'plain'",
    ),
    "a pair without a student": (PAIRS.replace(", student: lenet5", ""), "needs a student network"),
    "two sweeps": (SWEEP.replace("[8, 16]", "[8, 16], rounds: [1, 2]"), "expected one of rounds"),
    "an unknown sweep": (
        SWEEP.replace("sweep: {synthesis_batch", "sweep: {images"),
        "expected one of rounds",
    ),
    "a sweep of one": (SWEEP.replace("[8, 16]", "[8]"), "expected several values"),
    "a sweep of doubles": (SWEEP.replace("[8, 16]", "[8, 8]"), "expected several values, each once"),
    "a sweep of nonsense": (SWEEP.replace("[8, 16]", "[8, 1]"), "greater than or equal to 2"),
    "a sweep of words": (SWEEP.replace("[8, 16]", "[8, many]"), "sweep"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_suites_are_one_line(case: str, tmp_path: Path) -> None:
    text, expected = BAD[case]
    with pytest.raises(UserError) as caught:
        trials(tmp_path, text)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_quantization_is_not_swept(tmp_path: Path) -> None:
    text = SWEEP.replace("task: kd", "task: dfq").replace("student: resnet8\n", "options: {bits: [w4a4]}\n")
    with pytest.raises(UserError, match="cases of its own"):
        trials(tmp_path, text)


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_suites_that_ship(path: Path, tmp_path: Path) -> None:
    """Each has a title and the three budgets, and names methods and parameters that exist: checked on digits."""
    loaded = load_suite(path, {})
    assert loaded.title and {"smoke", "small", "paper"} <= set(loaded.budgets)
    options = {"base": 4, "step": 3} if loaded.task == "necil" else {}
    for budget in loaded.budgets:
        own = {
            "dataset": "digits",
            "image_size": None,
            "budget": budget,
            "options": {**loaded.options, **options},
        }
        planned = expand(loaded.model_copy(update=own), tasks()[loaded.task], load("digits"), "cpu")
        assert len(planned) >= len(loaded.seeds) * len(loaded.methods)
