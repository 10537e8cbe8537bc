"""Methods' names: what is written is read, and what is no name is refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgal.core.errors import UserError
from rgal.methods.names import MethodName, host_of, meaning, uses_rgal
from rgal.methods.registry import canonical_name, resolve

LOWER = "abkrgl"
hosts = st.builds("".join, st.tuples(st.sampled_from(LOWER), st.text(alphabet=LOWER + "19_", max_size=5)))
keys = st.builds(
    "".join, st.tuples(st.sampled_from(LOWER + "B_"), st.text(alphabet=LOWER + "B9_", max_size=3))
)
words = st.text(alphabet="abz019._-|/=:~ ", min_size=1, max_size=8).map(str.strip).filter(bool)


def parameters(values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    return st.dictionaries(keys, values, max_size=3).map(lambda given: tuple(given.items()))


def named(values: st.SearchStrategy[str]) -> st.SearchStrategy[MethodName]:
    return st.builds(MethodName, hosts, parameters(values), st.none() | parameters(values))


names = named(st.recursive(words, lambda values: named(values).map(str), max_leaves=4))


@settings(deadline=None)
@given(names)
def test_what_is_printed_is_parsed(name: MethodName) -> None:
    assert MethodName.parse(str(name)) == name


@settings(deadline=None)
@given(st.text(alphabet="abrgl1=,+[] ", max_size=16))
def test_what_is_parsed_is_printed_as_it_was_meant(text: str) -> None:
    """Any text is either refused in one line, or read as a name that is read as itself."""
    try:
        name = MethodName.parse(text)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert MethodName.parse(str(name)) == name


@settings(deadline=None)
@given(names, st.randoms())
def test_covering_is_about_sets_of_parameters(name: MethodName, random: object) -> None:
    """A name covers itself in any order, and whatever has more parameters; the bare host covers all of them."""
    turned = MethodName(name.host, name.parameters[::-1], name.plugin and name.plugin[::-1])
    assert name.covers(turned) and turned.covers(name)
    assert MethodName(name.host).covers(name) and name.without_plugin.covers(name)
    assert name.covers(name.without_plugin) == (name.plugin is None)
    more = MethodName(name.host, (*name.parameters, ("another", "1")), name.plugin)
    assert name.covers(more) and not more.covers(name)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10", "10.0", True),
        ("0.20", "0.2", True),
        ("1e-3", "0.001", True),
        ("FALSE", "false", True),
        ("false", "0", False),
        ("none", "0", False),
        ("cmi", "CMI", False),
        ("cmi[bn=2,oh=1]", "cmi[oh=1.0,bn=2.0]", True),
        ("cmi[bn=2]+rgal", "cmi[bn=2.0]+rgal[]", True),
        ("cmi+rgal", "cmi", False),
        ("a/b.npy", "a/b.npy", True),
    ],
)
def test_values_are_compared_by_what_they_mean(one: str, other: str, same: bool) -> None:
    assert (meaning(one) == meaning(other)) is same


UNREADABLE = {
    "": "cannot read method ''",
    "CMI": "cannot read method 'CMI'",
    "cmi[adv=1": "cannot read method",
    "cmi]adv=1[": "cannot read method",
    "cmi[adv=1]x": "cannot read method",
    "abd[source=cmi]bn=1]": "cannot read method",
    "cmi[adv]": "cannot read 'adv' in method 'cmi[adv]'; expected param=value",
    "cmi[=1]": "expected param=value",
    "cmi[adv=1,adv=1]": "parameter 'adv' is given twice",
    "cmi+": "cannot read method",
    "cmi+rgall": "unknown plug-in '+rgall' in 'cmi+rgall'; valid: +rgal",
    "cmi+rgal+rgal": "a method that already has it",
}


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        MethodName.parse(text)
    assert UNREADABLE[text] in str(caught.value) and "\n" not in str(caught.value)


def test_spaces_and_empty_items_do_not_count() -> None:
    assert str(MethodName.parse(" cmi[ bn = 2 ,, oh=1,] + rgal[] ")) == "cmi[bn=2,oh=1]+rgal"


def test_rgal_in_a_value_of_a_value_counts() -> None:
    assert uses_rgal("abd[source=pool[of=cmi+rgal]]") and not uses_rgal("abd[source=pool[of=cmi]]")
    assert uses_rgal("rgal (pool 3b8b72)") and not uses_rgal("CMI+rgal?")


# Names that the registry knows --------------------------------------------------------------------------------


def test_a_source_may_be_any_name() -> None:
    """With parameters and RGAL of its own, whose commas and plus signs are inside brackets."""
    nested = resolve("abd[source=cmi[bn=2,oh=0.5]]").recipe
    assert {term.name: term.weight for term in nested.synthesis}["bn"] == 2
    assert "spread" in {term.name for term in resolve("abd[source=cmi+rgal]").recipe.synthesis}


@pytest.mark.parametrize(
    "text",
    [
        "fast",
        "fast[k=10.0]",
        "fast[bn=5,k=10]+rgal[spread=0.20]",
        "rgal[oh=1,spread=0.3]",
        "cmi+rgal[pairs=TRUE]",
    ],
)
def test_a_canonical_name_is_the_one_of_the_recipe(text: str) -> None:
    if "k=10.0" in text:  # a whole number is written as one
        with pytest.raises(UserError, match="expected int"):
            canonical_name(text)
    else:
        assert str(canonical_name(text)) == resolve(text).name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fats", "unknown method 'fats'; did you mean 'fast'"),
        ("fast[kk=1]", "method 'fast' has no parameter 'kk'"),
        ("fast+rgal[sprad=1]", "method '+rgal' has no parameter 'sprad'"),
        ("rgal+rgal", "'rgal+rgal' would add RGAL to a method that already has it; write 'rgal'"),
    ],
)
def test_names_of_no_method_have_no_canonical_form(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        canonical_name(text)
    assert sentence in str(caught.value)


# Hosts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("cmi+rgal (pool 3b8b72)", "cmi (pool 3b8b72)"),  # what starts from given images has such a host
        ("cmi+rgal (pool 999999)", ""),
        ("cmi+rgal", "cmi"),
        ("rgal[spread=0.2] (pool 3b8b72)", "plain (pool 3b8b72)"),
        ("fast[bn=2.0,k=10]+rgal[spread=0.2]", "fast[k=10,bn=2]"),  # however its parameters are written
        ("fast[k=10]+rgal", ""),
    ],
)
def test_a_host_is_the_same_but_for_rgal(name: str, host: str) -> None:
    present = [
        "cmi",
        "cmi (pool 3b8b72)",
        "plain (pool 3b8b72)",
        "fast[k=10,bn=2]",
        "fast+rgal",
        "? unreadable",
    ]
    assert host_of(name, present) == host
