"""A method brings its own budgets, for suites that have no entry for it; a dry run names those that have neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rgal import benchmarks
from rgal.core.errors import UserError
from rgal.methods import registry
from rgal.methods.names import MethodName
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method, methods, resolve
from rgal.suite.plan.budget import own_schedule, schedule_for
from rgal.suite.plan.settings import load_suite
from rgal.suite.plan.trial import Trial
from rgal.suite.running.runner import make_plan
from tests.helpers.suites import SUITE, call

ENTRY = SUITE + "    methods: {mine: {rounds: 7}}\n"
FOLDER = Path(benchmarks.__file__).parent
Add = Callable[[Mapping[str, Mapping[str, Any]]], None]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Register the methods `mine`, which is plain, and `game`, which is zskt, with these budgets."""
    methods()
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))

    def register(budgets: Mapping[str, Mapping[str, Any]]) -> None:
        @method("mine", reference="a test", budgets=budgets)
        def mine() -> Recipe:
            return resolve("plain").recipe

        @method("game", reference="a test", budgets=budgets)
        def game() -> Recipe:
            return resolve("zskt").recipe

    yield register


def planned(folder: Path, text: str, *assignments: str) -> dict[str, Trial]:
    (folder / "suite.yaml").write_text(text)
    loaded = load_suite(folder / "suite.yaml", {"methods": ["plain", "mine", "game"]}, assignments)
    return {trial.method: trial for trial in make_plan(loaded).trials}


def test_a_methods_own_budget_goes_over_the_suites_and_under_its_entry(add: Add, tmp_path: Path) -> None:
    add({"smoke": {"rounds": 3, "parameters": {}}, "small": {"rounds": 9}})
    plain, mine = (planned(tmp_path, SUITE)[name].schedule for name in ("plain", "mine"))
    assert (plain["rounds"], mine["rounds"], mine["batch"]) == (1, 3, 8)
    assert planned(tmp_path, ENTRY)["mine"].schedule["rounds"] == 7
    assert planned(tmp_path, SUITE, "rounds=2")["mine"].schedule["rounds"] == 2  # the command line, over all
    assert planned(tmp_path, SUITE.replace("smoke", "other"), "budget=other")["mine"].schedule["rounds"] == 1


def test_a_game_keeps_its_ratio_of_steps(add: Add, tmp_path: Path) -> None:
    """zskt takes one step of the generator for five of the student."""
    for given, expected in (
        ({"student_steps": 180}, (36, 180)),
        ({"synthesis_steps": 36}, (36, 180)),
        ({"student_steps": 2}, (1, 2)),
        ({"student_steps": 10, "synthesis_steps": 7}, (7, 10)),
        ({"rounds": 2}, (1, 1)),  # what the suite says for all
    ):
        add({"smoke": given})
        schedule = planned(tmp_path, SUITE)["game"].schedule
        assert (schedule["synthesis_steps"], schedule["student_steps"]) == expected
    add({"smoke": {"student_steps": 180}})
    assert planned(tmp_path, SUITE, "synthesis_steps=4")["game"].schedule["synthesis_steps"] == 4


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (
            {"small": {"round": 2}},
            "method 'mine': budgets.small: unknown key 'round', did you mean 'rounds'?",
        ),
        (
            {"smoke": {"rounds": 0}},
            "method 'mine': budgets.smoke.rounds: Input should be greater than or equal to 1",
        ),
    ],
)
def test_a_wrong_budget_is_named(budgets: dict[str, Any], message: str, add: Add) -> None:
    add(budgets)
    with pytest.raises(UserError) as caught:
        own_schedule(methods()["mine"], "smoke")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "budgets", "named"),
    [
        (SUITE, {}, []),  # nothing is tuned
        (ENTRY, {}, ["plain", "game"]),
        (SUITE, {"smoke": {"rounds": 3}}, ["plain"]),
        (ENTRY.replace("{mine:", "{plain: {}, game: {}, mine:"), {}, []),
    ],
)
def test_a_dry_run_names_rows_on_the_default_schedule(
    text: str,
    budgets: dict[str, Any],
    named: list[str],
    add: Add,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add(budgets)
    (tmp_path / "suite.yaml").write_text(text)
    assert call(tmp_path, "--methods", "plain", "mine", "game", "--dry-run") == 0
    shown = capsys.readouterr()
    warnings = [line for line in shown.err.splitlines() if line.startswith("warning: ")]
    assert "3 trials" in shown.out and len(warnings) == bool(named)
    if named:
        runs = "runs" if len(named) == 1 else "run"
        assert warnings[0].startswith(f"warning: {', '.join(named)} {runs} what budget smoke says for all")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_no_suite_that_ships_runs_one_of_its_methods_untuned(path: Path) -> None:
    """Entries that are empty say that the numbers for all were chosen with this method."""
    suite = load_suite(path, {})
    names = [MethodName.parse(text) for text in suite.methods if not text.startswith("all")]
    for budget in suite.budgets.values():
        if not (budget.methods and (budget.rounds or budget.synthesis_steps or budget.student_steps)):
            continue
        for name in names:
            recipe = resolve(str(name)).recipe
            if recipe.data_free and any(recipe.total_steps().values()):
                assert schedule_for(budget, suite.networks[0], {}, name).tuned, (path.name, str(name))
