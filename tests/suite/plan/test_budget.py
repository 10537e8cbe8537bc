"""Which of a budget's exceptions a method takes; and that the suites that ship take those they always took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgal import benchmarks
from rgal.core.errors import UserError
from rgal.methods.names import MethodName
from rgal.methods.registry import resolve
from rgal.suite.plan.budget import nearest_entry, read_entries, schedule_for
from rgal.suite.plan.expansion import expand_names
from rgal.suite.plan.settings import Budget, Pair, Schedule, load_suite
from rgal.suite.task import tasks

SUITES = sorted(Path(benchmarks.__file__).parent.glob("*.yaml"))
PARSE = MethodName.parse


def nearest(name: str, *entries: str) -> str:
    entry = nearest_entry(PARSE(name), map(PARSE, entries), "methods")
    return "" if entry is None else str(entry)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("fast", "fast"),
        ("fast[k=2]", "fast"),
        ("fast[k=10]", "fast[k=10]"),
        ("fast[k=10.0]", "fast[k=10]"),
        ("fast[k=10]+rgal", "fast[k=10]"),
        ("fast[k=10]+rgal[spread=0.2]", "fast[k=10]"),
        ("fast[k=10,bn=5]", "fast[k=10]"),
        ("fast[bn=5,form=reptile,k=10]", "fast[k=10,form=reptile]"),
        ("cmi[bn=2]+rgal", "cmi+rgal"),
        ("cmi+rgal[spread=0.1,gather=0]", "cmi+rgal"),
        ("cmi+rgal[spread=0.20,gather=0]", "cmi+rgal[spread=0.2]"),
        ("cmi", "cmi"),
        ("rgal[bn=2]", "rgal"),
        ("plain+rgal", ""),  # rgal and plain+rgal are one recipe under two names, and two hosts
        ("fastest", ""),
    ],
)
def test_a_method_takes_the_nearest_entry(name: str, entry: str) -> None:
    entries = (
        "fast",
        "fast[k=10]",
        "fast[k=10,form=reptile]",
        "cmi",
        "cmi+rgal",
        "cmi+rgal[spread=0.2]",
        "rgal",
    )
    assert nearest(name, *entries) == nearest(name, *entries[::-1]) == entry


def test_entries_equally_near_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        nearest("fast[k=10,bn=5]", "fast", "fast[k=10]", "fast[bn=5]")
    assert str(caught.value) == (
        "methods: 'fast[k=10]' and 'fast[bn=5]' are equally near to method 'fast[k=10,bn=5]'; "
        "add an entry for 'fast[k=10,bn=5]'"
    )
    assert nearest("fast[k=10,bn=5]", "fast[k=10]", "fast[bn=5]", "fast[bn=5,k=10]") == "fast[bn=5,k=10]"


KEYS = ("a", "b", "c")
some = st.dictionaries(st.sampled_from(KEYS), st.sampled_from("12"), max_size=3).map(
    lambda d: tuple(sorted(d.items()))
)
names = st.builds(MethodName, st.just("x"), some, st.none() | some)


@settings(deadline=None)
@given(names, st.sets(names, max_size=6))
def test_no_entry_that_applies_is_nearer_than_the_one_taken(
    name: MethodName, entries: set[MethodName]
) -> None:
    try:
        taken = nearest_entry(name, entries, "methods")
    except UserError:
        return
    applying = [entry for entry in entries if entry.covers(name)]
    assert (taken is None) == (not applying)
    assert taken is None or not [entry for entry in applying if entry != taken and taken.covers(entry)]
    assert name not in entries or taken == name


def test_entries_are_read_as_names_are_written() -> None:
    """Defaults are left out, so that `fast[k=5]` is an entry for `fast`."""
    table = read_entries({"fast[k=5]": Schedule(rounds=2), "fast[bn=5,k=10]": Schedule(rounds=3)})
    assert [str(name) for name in table] == ["fast", "fast[k=10,bn=5]"]
    with pytest.raises(UserError, match=r"'fast\[k=5\]' is there twice: it is 'fast'"):
        read_entries({"fast": Schedule(), "fast[k=5]": Schedule()})
    with pytest.raises(UserError, match="no parameter 'kk'"):
        read_entries({"fast[kk=5]": Schedule()})


def test_what_was_taken_is_told() -> None:
    budget = Budget(methods={"fast[k=10]": Schedule(rounds=2)})
    pair = Pair(teacher="a", methods={"fast": Schedule(synthesis_lr=0.1)})
    taken = schedule_for(budget, pair, {}, PARSE("fast[k=10,bn=5]+rgal"))
    assert taken.describe("small") == "budget small: fast[k=10], pair: fast"
    assert taken.schedule == Schedule(rounds=2, synthesis_lr=0.1)
    assert schedule_for(budget, Pair(teacher="a"), {}, PARSE("cmi")).describe("small") == "budget small"


# The suites that ship ------------------------------------------------------------------------------------------


def by_text(exceptions: dict[str, Schedule], name: str, host: str) -> Schedule:
    """The rule before names were parsed: the full text, else the text without "+rgal" at its end, else the host."""
    texts = (name, name.removesuffix("+rgal"), host)
    return next((exceptions[text] for text in texts if text in exceptions), Schedule())


def merged_by_text(budget: Budget, pair: Pair, name: str, host: str) -> Schedule:
    merged: dict[str, Any] = {field: getattr(budget, field) for field in Schedule.model_fields}
    for exceptions in (budget.methods, pair.methods):
        own = by_text(exceptions, name, host).model_dump(exclude_none=True)
        parameters = {**(merged["parameters"] or {}), **own.get("parameters", {})}
        merged |= own | {"parameters": parameters or None}
    return Schedule(**merged)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_suites_that_ship_have_the_schedules_they_had(path: Path) -> None:
    """For every budget and pair, of the methods that the suite names, and of all with and without RGAL."""
    suite = load_suite(path, {})
    defaults = tasks()[suite.task].defaults
    for budget in suite.budgets.values():
        for pair in suite.networks:
            for text in expand_names([*suite.methods, "all", "all+rgal"], tasks()[suite.task]):
                resolved = resolve(text, None, defaults)
                taken = schedule_for(budget, pair, {}, PARSE(resolved.name), defaults)
                host = resolved.method.name
                assert taken.schedule == merged_by_text(budget, pair, resolved.name, host), (text, pair)


# What the rule by text got wrong in kd.yaml: each of these ran under the schedule of the bare host, `fast`.
WRONG_BY_TEXT = ("fast[k=10]+rgal[spread=0.2]", "fast[k=10,bn=5]", "fast[k=10,bn=5]+rgal")


@pytest.mark.parametrize("name", WRONG_BY_TEXT)
def test_a_parameter_more_is_no_other_schedule(name: str) -> None:
    suite = load_suite(Path(benchmarks.__file__).parent / "kd.yaml", {})
    budget, pair = suite.budgets["small"], suite.networks[0]
    wanted = schedule_for(budget, pair, {}, PARSE("fast[k=10]")).schedule
    assert (
        schedule_for(budget, pair, {}, PARSE(name)).schedule
        == wanted
        != merged_by_text(budget, pair, name, "fast")
    )
