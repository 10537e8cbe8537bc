"""Whatever is written in a suite file or after --set: settings as they were meant, or one line about what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from rgal.core.errors import UserError
from rgal.suite.plan.settings import Budget, Schedule, Suite, load_suite
from tests.helpers.suites import SUITE

COUNTS = ("rounds", "synthesis_steps", "student_steps", "generator_width")
RATES = ("student_lr", "synthesis_lr")
# A line break in an argument is its author's: messages quote arguments as they are.
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), max_size=12)
WORDS = st.sampled_from([*Suite.model_fields, *Budget.model_fields, "smoke", "extends", "cmi", ""])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "suite.yaml"
    path.write_text(SUITE)
    return path


def settings_or_one_line(path: Path, *assignments: str) -> Suite | None:
    """What is loaded; None after a UserError, whose message must be one line."""
    try:
        return load_suite(path, {}, assignments)
    except UserError as error:
        assert len(str(error).splitlines()) == 1, error
        return None


@given(name=st.sampled_from(COUNTS), count=st.integers(1, 10**9))
def test_a_count_arrives_under_either_spelling(path: Path, name: str, count: int) -> None:
    for key in (name, f"budgets.smoke.{name}"):
        assert getattr(load_suite(path, {}, (f"{key}={count}",)).chosen_budget(), name) == count


@given(name=st.sampled_from(RATES), rate=st.floats(1e-9, 1e9))
def test_a_rate_arrives_however_python_prints_it(path: Path, name: str, rate: float) -> None:
    """YAML 1.1 takes 1e-05 for text."""
    for text in (repr(rate), f"{rate:e}"):
        assert getattr(load_suite(path, {}, (f"{name}={text}",)).chosen_budget(), name) == float(text)


@given(count=st.integers(1, 99), exception=st.integers(100, 199), name=st.sampled_from(COUNTS))
def test_what_is_set_for_all_goes_over_exceptions(path: Path, count: int, exception: int, name: str) -> None:
    """An exception of the file gives way; one that is set by name stays, in whatever order they are given."""
    one = f"budgets.smoke.methods.cmi.{name}={exception}"
    budget = load_suite(path, {}, (one, f"{name}={count}")).chosen_budget()
    assert getattr(budget, name) == count and getattr(budget.methods["cmi"], name) is None
    budget = load_suite(path, {}, (f"{name}={count}", one)).chosen_budget()
    assert getattr(budget, name) == count and getattr(budget.methods["cmi"], name) == exception


@given(
    keys=st.lists(WORDS, min_size=1, max_size=4), value=PRINTABLE | VALUES.map(str).filter(str.isprintable)
)
@example(keys=["seeds"], value="2001-13-45")
@example(keys=["options"], value="{[1]: 2}")
@example(keys=["seeds"], value="&a [*a]")
def test_any_assignment_is_taken_or_refused_in_one_line(path: Path, keys: list[str], value: str) -> None:
    settings_or_one_line(path, f"{'.'.join(keys)}={value}")


@given(value=st.dictionaries(WORDS, VALUES, max_size=4))
def test_any_mapping_is_a_suite_or_refused_in_one_line(path: Path, value: dict[str, Any]) -> None:
    file = path.with_name("any.yaml")
    file.write_text(yaml.safe_dump({**yaml.safe_load(SUITE), **value}), encoding="utf-8")
    settings_or_one_line(file)


@given(text=st.text(alphabet="ab: -[]{}&*?!|>'\"#%@`,\n\t2=.0", max_size=30) | st.text(max_size=20))
@example(text="? [a]\n: b\n")
@example(text="a: 2001-13-45\n")
@example(text="a: !!python/object:os.system x\n")
def test_any_text_is_refused_in_one_line(path: Path, text: str) -> None:
    file = path.with_name("text.yaml")
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert settings_or_one_line(file) is None


@given(
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    schedule=st.builds(Schedule, rounds=st.integers(1, 9), student_lr=st.floats(0.001, 1)),
)
def test_settings_that_are_written_are_read_again(path: Path, seeds: list[int], schedule: Schedule) -> None:
    suite = load_suite(path, {"seeds": seeds, "budgets": {"smoke": schedule.model_dump()}})
    file = path.with_name("again.yaml")
    file.write_text(yaml.safe_dump(suite.model_dump(mode="json", exclude={"pairs"})), encoding="utf-8")
    assert load_suite(file, {}) == suite
