"""Names on the command line -> recipes."""

from __future__ import annotations

from typing import Any

import pytest

from rgal.core.errors import UserError
from rgal.methods.recipe import Recipe
from rgal.methods.registry import methods, resolve


def weight(name: str, term: str, phase: str = "synthesis") -> float:
    return {w.name: w.weight for w in getattr(resolve(name).recipe, phase)}[term]


def test_parameters_reach_the_recipe() -> None:
    assert weight("cmi[adv=0.25]", "adv") == 0.25
    assert weight("rgal[spread=0.3,gather=0.7]", "spread") == 0.3
    assert weight("rgal[spread=0.3,gather=0.7]", "gather", "transfer") == 0.7
    assert weight("cmi[cr=2]+rgal[spread=0.3]", "cr") == 2
    assert weight("cmi[cr=2]+rgal[spread=0.3]", "spread") == 0.3
    assert not resolve("rgal[pairs=false]").recipe.pairs


def test_canonical_names() -> None:
    """Defaults are left out and parameters sorted as declared, so that one method has one row."""
    assert resolve("rgal[spread=0.1]").name == "rgal"
    assert resolve("cmi[cr=0.5,bn=2]").name == "cmi[bn=2,cr=0.5]"
    assert resolve("cmi[cr=0.5,bn=2.0]").name == "cmi[bn=2,cr=0.5]"
    assert resolve("cmi+rgal[follows=code,margin=0.30]").name == "cmi+rgal[follows=code,margin=0.3]"
    assert resolve("rgal[pairs=FALSE,low=0.4]").name == "rgal[low=0.4,pairs=false]"
    for name in ("cmi[bn=2,cr=0.5]", "cmi+rgal[follows=code,margin=0.3]", "rgal[low=0.4,pairs=false]"):
        assert resolve(name).name == name


def test_rgal_is_plain_plus_rgal() -> None:
    one, two = resolve("rgal").recipe, resolve("plain+rgal").recipe
    for phase in ("synthesis", "transfer"):
        assert [(w.name, w.weight) for w in getattr(one, phase)] == [
            (w.name, w.weight) for w in getattr(two, phase)
        ]
    assert one.rounds == two.rounds and one.images == two.images and one.pairs == two.pairs


def test_rgal_has_the_parameters_of_both() -> None:
    parameters = methods()["rgal"].parameters
    assert {"bn", "oh", "adv", "spread", "gather", "follows", "band"} <= set(parameters)
    assert (parameters["spread"].kind, parameters["spread"].default) == (float, 0.1)


@pytest.mark.parametrize("name", ["", "CMI", "cmi]", "cmi[adv=1]x", "+rgal", "cmi+", "../cmi", "cmi[adv==1]"])
def test_unreadable_names(name: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_a_suite_may_tune_a_host() -> None:
    """Suite parameters apply below what the name says, leave the name alone, and are checked like any other."""
    tuned = resolve("rgal[bn=3]", {"oh": 5.0, "bn": 2.0, "pairs": False})
    assert {w.name: w.weight for w in tuned.recipe.synthesis}["oh"] == 5
    assert {w.name: w.weight for w in tuned.recipe.synthesis}["bn"] == 3
    assert not tuned.recipe.pairs and tuned.name == "rgal[bn=3]"
    with pytest.raises(UserError, match="no parameter 'ohh'; did you mean 'oh'"):
        resolve("rgal", {"ohh": 5.0})


# Defaults of a task and parameters of a suite ---------------------------------------------------------------------

TASK: dict[str, Any] = {"cd": 0.0, "pairs": False, "per_class": 4}


def facts(recipe: Recipe) -> dict[str, Any]:
    """All of a recipe that can be compared: its terms by name, weight and when they are active."""
    terms = [
        (phase, w.name, w.weight, w.after_warmup, w.until)
        for phase in ("synthesis", "transfer")
        for w in getattr(recipe, phase)
    ]
    fields = ("images", "optimiser", "student", "rounds", "keep", "source", "pairs", "per_class", "fmix")
    return {"terms": terms, **{name: getattr(recipe, name) for name in fields}}


def relational(text: str, tuned: Any = None, defaults: Any = None) -> tuple[float, bool, int]:
    """The weight of channel distillation, whether images come in pairs, and images a class."""
    recipe = resolve(text, tuned, defaults).recipe
    return {w.name: w.weight for w in recipe.transfer}["cd"], recipe.pairs, recipe.per_class


@pytest.mark.parametrize("text", ["rgal", "cmi+rgal", "real_kd+rgal"])
def test_a_tasks_defaults_apply_to_host_and_plug_in(text: str) -> None:
    assert relational(text) == (0.1, True, 0)
    assert relational(text, None, TASK) == (0.0, False, 4)
    assert resolve(text, None, TASK).name == text
    assert facts(resolve(text, None, {"lr_of_nobody": 1.0}).recipe) == facts(resolve(text).recipe)


def test_a_tasks_defaults_reach_hosts_that_have_the_parameter() -> None:
    both = {"temperature": 4.0, "bn": 3.0, "spread": 0.7}
    terms = {w.name: w.weight for w in resolve("cmi+rgal", None, both).recipe.synthesis}
    assert (terms["bn"], terms["spread"]) == (3.0, 0.7)
    assert facts(resolve("scratch", None, both).recipe) == facts(resolve("scratch").recipe)


def test_the_text_goes_before_the_suite_and_the_suite_before_the_task() -> None:
    assert relational("rgal[pairs=true,cd=0.3]", {"cd": 0.2}, TASK) == (0.3, True, 4)
    assert relational("rgal[pairs=true]", {"cd": 0.2}, TASK) == (0.2, True, 4)
    assert relational("cmi+rgal[per_class=2]", {"bn": 2.0}, TASK) == (0.0, False, 2)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rgal[cd=0.1]", "rgal[cd=0.1]"),
        ("rgal[cd=0]", "rgal"),
        ("rgal[pairs=true,per_class=0]", "rgal[pairs=true,per_class=0]"),
        ("cmi+rgal[pairs=true]", "cmi+rgal[pairs=true]"),
        ("cmi+rgal[pairs=false,per_class=4,cd=0.0]", "cmi+rgal"),
        ("cmi[bn=1]+rgal[spread=0.1,cd=0.1]", "cmi[bn=1]+rgal[cd=0.1]"),
        ("cmi[bn=2]", "cmi"),
    ],
)
def test_names_tell_what_differs_from_a_bare_name_in_this_suite(text: str, name: str) -> None:
    """A value that is a function's default, but not the task's or the suite's, stays in the name."""
    tuned = {"bn": 2.0} if text.startswith("cmi") else None
    assert resolve(text, tuned, TASK).name == name


@pytest.mark.parametrize("tuned", [None, {"bn": 2.0, "oh": 0.0}])
@pytest.mark.parametrize("defaults", [None, TASK])
@pytest.mark.parametrize(
    "text",
    [
        "plain[bn=1,oh=1]",
        "cmi[cr=0.5,bn=1]+rgal[cd=0.1,pairs=true]",
        "cmi+rgal[pairs=false,follows=code,low=none,per_class=0]",
        "cmi[bn=2]+rgal[cd=0,margin=0.2]",
        "rgal[cd=0.1,bn=1,pairs=true,per_class=0,low=0.4]",
        "rgal[oh=0,cd=0,band=uniform]",
    ],
)
def test_a_canonical_name_means_the_same_recipe(text: str, tuned: Any, defaults: Any) -> None:
    first = resolve(text, tuned, defaults)
    again = resolve(first.name, tuned, defaults)
    assert again.name == first.name and facts(again.recipe) == facts(first.recipe)


OUT_OF_RANGE = {
    "pass[temperature=0]": "expected a number above 0",
    "cmi[cr_temperature=-1]": "expected a number above 0",
    "plain[lr=0]": "expected a number above 0",
    "cmi[bn=nan]": "expected a finite number",
    "rgal[margin=inf]": "expected a finite number",
    "pass[draws=0]": "draws=0: expected 1 or more",
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_numbers_that_cannot_work_are_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(name)
    assert OUT_OF_RANGE[name] in str(caught.value) and "\n" not in str(caught.value)
