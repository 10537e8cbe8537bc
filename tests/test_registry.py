"""Names on the command line -> recipes."""

from __future__ import annotations

import pytest

from rgal.errors import UserError
from rgal.registry import methods, parameters, resolve


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
    found = parameters(methods()["rgal"].recipe)
    assert {"bn", "oh", "adv", "spread", "gather", "follows", "band"} <= set(found)
    assert found["spread"] == (float, 0.1)


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
