"""What is told of methods and their parameters is what they are declared as."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import pytest

from rgal import cli
from rgal.core.errors import UserError
from rgal.methods.listing import list_methods, options_table
from rgal.methods.parameters import Meaning, Positive, parameters, text_of, values_from
from rgal.methods.registry import methods
from rgal.methods.rgal_options import RgalOptions
from rgal.terms.negatives import BANDS, BandName

ROOT = Path(cli.__file__).parents[1]


def declared(
    rate: Annotated[float, Positive, Meaning("how fast", "a paper")] = 0.1,
    limit: Annotated[float, Positive] | None = None,
    form: Literal["one", "two"] = "one",
    times: int = 3,
    on: bool = False,
    file: str = "",
) -> None:
    """A function with a parameter of every kind."""


def test_parameters_are_read_from_a_signature() -> None:
    rate, limit, form, *others = parameters(declared).values()
    assert (rate.kind, rate.default, rate.positive, rate.optional) == (float, 0.1, True, False)
    assert (rate.meaning, rate.source, rate.type_text) == ("how fast", "a paper", "number above 0")
    assert (limit.kind, limit.positive, limit.optional) == (float, True, True)
    assert limit.type_text == "number above 0 or none"
    assert (form.choices, form.type_text) == (("one", "two"), "one or two")
    assert [other.type_text for other in others] == ["whole number", "true or false", "text"]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("rate", "1e-3", 0.001),
        ("limit", "none", None),
        ("form", "two", "two"),
        ("times", "-2", -2),
        ("on", "TRUE", True),
        ("file", "none", "none"),
    ],
)
def test_texts_become_values(key: str, text: str, value: object) -> None:
    values = values_from(parameters(declared), "declared", {key: text})
    assert values == {key: value} and type(values[key]) is type(value)
    assert values_from(parameters(declared), "declared", {key: text_of(value)}) == values


@pytest.mark.parametrize(
    ("key", "text", "sentence"),
    [
        ("rate", "0", "declared[rate=0]: expected a number above 0"),
        ("rate", "inf", "declared[rate=inf]: expected a finite number, found 'inf'"),
        ("rate", "none", "declared[rate=none]: expected float, found 'none'"),
        ("limit", "-1", "declared[limit=-1]: expected a number above 0"),
        ("form", "tow", "declared[form=tow]: did you mean 'two'? valid: one, two"),
        ("times", "2.5", "declared[times=2.5]: expected int, found '2.5'"),
        ("on", "1", "declared[on=1]: expected true or false, found '1'"),
        ("tmies", "1", "method 'declared' has no parameter 'tmies'; did you mean 'times'?"),
    ],
)
def test_texts_that_mean_nothing_are_refused(key: str, text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        values_from(parameters(declared), "declared", {key: text})
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", methods())
def test_learning_rates_and_temperatures_are_above_zero(name: str) -> None:
    for key, parameter in methods()[name].parameters.items():
        assert parameter.positive or not key.endswith(("lr", "temperature")), key


def test_every_option_of_rgal_has_a_meaning() -> None:
    assert all(option.meaning for option in parameters(RgalOptions).values())
    assert set(get_args(BandName)) == set(BANDS)


def test_the_documented_options_are_those_of_rgal() -> None:
    """Print `rgal.methods.listing.options_table()` and put it into the document if they are not."""
    assert options_table() in (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def test_all_methods_are_listed_with_tasks_and_reference_a_line_each() -> None:
    assert list_methods().splitlines() == [
        f"{name:<14} [{', '.join(method.tasks)}] {method.reference}" for name, method in methods().items()
    ]


def test_a_method_is_described_by_its_parameters_and_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", "methods", "rgal", "real_calibration"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "temperature 20 number above 0 temperature of the distillation" in lines
    assert "spread 0.1 number weight of the triplet in synthesis (--triplet 0.1)" in lines
    assert "RGAL: plain generator inversion plus the relation terms." in lines
    assert any(line.startswith("Reference row: activation ranges") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["methods", "rgall"], "--list methods rgall: did you mean 'rgal'?"),
        (["nets", "wrn16_1"], "--list nets wrn16_1: expected no name"),
    ],
)
def test_what_cannot_be_described_is_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--list", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_the_methods_of_one_task_are_listed_alone() -> None:
    heads = [line.split("]")[0] for line in list_methods(task="dfq").splitlines()]
    assert any(head.startswith("gdfq ") for head in heads) and all(
        "dfq" in head.split("[")[1] for head in heads
    )
    assert len(heads) < len(list_methods().splitlines())
