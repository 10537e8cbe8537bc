"""Published numbers stand beside the measured ones and come from their primary source."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from rgal.errors import UserError
from rgal.reporting.reference import load_reference
from rgal.reporting.render import cells
from rgal.reporting.tables import accuracy_table
from tests.reporting_builders import CMI_README, REFERENCE, by_method, some_results

results = pytest.fixture(some_results)


def test_published_numbers_stand_beside_the_measured_ones(results: pd.DataFrame) -> None:
    with_them, without = accuracy_table(results, load_reference(REFERENCE)), accuracy_table(results)
    published = by_method(with_them)["published_percent"]
    assert published["cmi"] == 90.01 and published["scratch"] == 91.12 and published["dafl"] == 65.71
    assert math.isnan(published["cmi+rgal"])  # a variant is not the published method
    measured = [name for name in with_them.columns if not name.startswith("published")]
    pd.testing.assert_frame_equal(with_them[measured], without[measured])
    note = with_them.attrs["notes"][-1]
    for part in (
        "not measured here",
        "Best test accuracy over epochs",
        "Published teacher: 94.87 %",
        CMI_README,
    ):
        assert part in note
    assert "Published (%)" in cells(with_them) and "Published (%)" not in cells(without)
    assert not any("Published" in note for note in without.attrs["notes"])


def test_other_pairs_and_data_have_no_published_number(results: pd.DataFrame) -> None:
    other = accuracy_table(results.assign(dataset="digits"), load_reference(REFERENCE))
    assert other["published_percent"].isna().all()
    assert not any("Published" in note for note in other.attrs["notes"])


def test_the_cmi_readme_is_the_primary_source() -> None:
    reference = load_reference(REFERENCE)
    pair = ("vgg11", "resnet18")
    value = reference.published("kd", "cifar100", *pair, "dafl")  # the Fast README prints 54.16
    assert value is not None and value[0] == 57.29 and value[1].startswith(CMI_README)
    fast = reference.published("kd", "cifar10", "wrn40_2", "wrn16_1", "fast_10")
    assert fast is not None and fast[0] == 89.29 and "Fast-Datafree" in fast[1]
    big = reference.published("kd", "imagenet", "resnet50", "resnet50", "deepinversion")
    assert big is not None and big[0] == 68.0
    assert reference.published("kd", "imagenet", "resnet50", "resnet18", "deepinversion") is None
    assert reference.published("kd", "cifar10", "wrn40_2", "wrn16_1", "rgal") is None
    assert reference.published("necil", "cifar10", "wrn40_2", "wrn16_1", "cmi") is None
    assert load_reference(REFERENCE / "kd.yaml") == reference


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task: [", "not valid YAML"),
        ("- 1", "expected a mapping, found list"),
        ("task: kd", "'tables' is missing, found: task"),
        ("task: kd\ntables: 3", "tables: expected a list, found int"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [ab], top1: {}}]", "teacher/student"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: [1, 2]}}]", "needs 1 numbers"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: [101]}}]", "found 101"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: ['9']}}]", "found '9'"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_wrong_reference_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "kd.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_reference(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_reference_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent.yaml: cannot read"):
        load_reference(tmp_path / "absent.yaml")
