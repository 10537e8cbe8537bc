"""Published numbers stand beside the measured ones and come from their primary source."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from rgal.core.errors import UserError
from rgal.reporting.published import load_reference
from tests.helpers.reporting_builders import (
    CMI_README,
    REFERENCE,
    accuracy_of,
    by_method,
    case_trial,
    trial,
)


def test_published_numbers_stand_beside_the_measured_ones(results: pd.DataFrame) -> None:
    with_them, without = accuracy_of(results, load_reference(REFERENCE)), accuracy_of(results)
    published = by_method(with_them)["published_percent"]
    assert published["cmi"] == 90.01 and published["scratch"] == 91.12 and published["dafl"] == 65.71
    assert math.isnan(published["cmi+rgal"])  # a variant is not the published method
    measured = [name for name in with_them.numbers.columns if not name.startswith("published")]
    pd.testing.assert_frame_equal(with_them.numbers[measured], without.numbers[measured])
    note = with_them.notes[-1]
    for part in (
        "not measured here",
        "Best test accuracy over epochs",
        CMI_README,
    ):
        assert part in note
    assert "Published (%)" in with_them.cells() and "Published (%)" not in without.cells()
    assert not any("Published" in note for note in without.notes)


def test_other_pairs_and_data_have_no_published_number(results: pd.DataFrame) -> None:
    other = accuracy_of(results.assign(dataset="digits"), load_reference(REFERENCE))
    assert other.numbers["published_percent"].isna().all()
    assert not any("Published" in note for note in other.notes)


def test_the_cmi_readme_is_the_primary_source() -> None:
    reference = load_reference(REFERENCE)
    pair = ("vgg11", "resnet18")
    value = reference.published("kd", "cifar100", *pair, "dafl")  # the Fast README prints 54.16
    assert value is not None and value[0] == 57.29 and value[1].startswith(CMI_README)
    fast = reference.published("kd", "cifar10", "wrn40_2", "wrn16_1", "fast[k=10]")
    assert fast is not None and fast[0] == 89.29 and "Fast-Datafree" in fast[1]
    big = reference.published("kd", "imagenet", "resnet50", "resnet50", "deepinversion")
    assert big is not None and big[0] == 68.0
    assert reference.published("kd", "imagenet", "resnet50", "resnet18", "deepinversion") is None
    assert reference.published("kd", "cifar10", "wrn40_2", "wrn16_1", "rgal") is None
    assert reference.published("necil", "cifar10", "wrn40_2", "wrn16_1", "cmi") is None


def test_imagenet_networks_may_come_from_torchvision(results: pd.DataFrame) -> None:
    form = results.assign(dataset="imagenet", teacher="torchvision:resnet50", student="torchvision:resnet50")
    form["method"] = form["method"].replace({"cmi": "deepinversion[variant=imagenet]", "dafl": "fast[k=50]"})
    published = by_method(accuracy_of(form, load_reference(REFERENCE)))["published_percent"]
    assert published["deepinversion[variant=imagenet]"] == 68.0 and published["fast[k=50]"] == 68.61
    assert published["scratch"] == 75.45
    # on CIFAR-10 the published DeepInversion has another form
    small = form.assign(dataset="cifar10", teacher="wrn40_2", student="wrn16_1")
    published = by_method(accuracy_of(small, load_reference(REFERENCE)))["published_percent"]
    assert math.isnan(published["deepinversion[variant=imagenet]"])


def test_training_on_real_images_has_a_published_number_where_it_is_credible() -> None:
    reference = load_reference(REFERENCE)
    cell = reference.published("kd", "cifar100", "wrn40_2", "wrn16_1", "real_kd")
    assert cell is not None and cell[0] == 64.06 and "Fast-Datafree" in cell[1]
    assert reference.published("kd", "cifar10", "wrn40_2", "wrn16_1", "real_kd") is None


def test_a_folder_holds_what_its_files_hold() -> None:
    reference, kd = load_reference(REFERENCE), load_reference(REFERENCE / "kd.yaml")
    assert {key: value for key, value in reference.values.items() if key[0] == "kd"} == kd.values
    assert set(reference.about) == {"kd", "dfq", "necil"} and reference.about["kd"] == kd.about["kd"]


@pytest.mark.parametrize(
    ("dataset", "net", "method", "case", "top1", "source"),
    [
        ("cifar100", "resnet20", "gdfq", "w4a4", 63.58, "xushoukai/GDFQ"),
        ("imagenet", "resnet18", "gdfq", "w4a4", 60.6, "xushoukai/GDFQ"),
        ("cifar10", "resnet20", "qimera", "w5a5", 93.46, "qimera"),
        ("imagenet", "mobilenet_v2", "qimera", "w4a4", 61.62, "qimera"),
        ("cifar10", "resnet20", "intraq", "w3a3", 77.07, "IntraQ"),
        ("imagenet", "mobilenet_v1", "intraq", "w5a5", 68.17, "IntraQ"),
        ("imagenet", "resnet50", "zeroq", "w8a8", 77.67, "ZeroQ"),
        ("cifar10", "resnet20", "teacher", "w4a4", 93.89, "qimera"),  # in float, whatever the case
    ],
)
def test_quantization_is_published_by_bit_width(
    dataset: str, net: str, method: str, case: str, top1: float, source: str
) -> None:
    cell = load_reference(REFERENCE).published("dfq", dataset, net, net, method, case)
    assert cell is not None and cell[0] == top1 and source in cell[1]


def test_other_bit_widths_and_variants_have_no_published_number() -> None:
    reference = load_reference(REFERENCE)
    for method, case in (("gdfq", "w8a8"), ("gdfq", ""), ("rgal", "w4a4"), ("gdfq+rgal", "w4a4")):
        assert reference.published("dfq", "cifar100", "resnet20", "resnet20", method, case) is None
    assert reference.published("dfq", "cifar100", "resnet20", "resnet18", "gdfq", "w4a4") is None


@pytest.mark.parametrize(("bits", "top1"), [("w3a3", 48.25), ("w4a4", 64.98)])
def test_rows_that_a_source_swapped_are_put_right_and_say_so(bits: str, top1: float) -> None:
    cell = load_reference(REFERENCE).published("dfq", "cifar100", "resnet20", "resnet20", "intraq", bits)
    assert cell is not None and cell[0] == top1 and "in each other's place" in cell[1]


def test_every_number_has_a_source_and_networks_are_in_the_key() -> None:
    reference = load_reference(REFERENCE)
    count = Counter(key[0] for key in reference.values)
    assert count == {"kd": 140, "dfq": 175, "necil": 231}
    assert all(len(source) > 10 and 0 <= top1 <= 100 for top1, source in reference.values.values())
    for task, _, teacher, student, _, case, network in reference.values:
        assert (network != "") == (task == "necil") and teacher and student
        assert case == "" or re.fullmatch(r"w\da\d", case)
    assert {key[6] for key in reference.values} == {"", "resnet18", "resnet32", "unknown"}


def test_a_number_of_another_network_is_not_ours() -> None:
    reference = load_reference(REFERENCE)
    asked = ("necil", "cifar100", "last", "10+9x10", "abd", "")
    cells = {net: reference.published(*asked, net) for net in ("resnet32", "resnet18", "resnet8", "")}
    assert {net: value[0] for net, value in cells.items() if value} == {"resnet32": 33.7, "resnet18": 43.11}


def test_the_first_of_two_sources_is_the_authors_own() -> None:
    """Later papers quote GDFQ's 63.58 as 63.75; the CMI README goes before Fast-Datafree's."""
    cell = load_reference(REFERENCE).published("dfq", "cifar100", "resnet20", "resnet20", "gdfq", "w4a4")
    assert cell is not None and cell[0] == 63.58
    quoted = load_reference(REFERENCE).published("dfq", "cifar100", "resnet20", "resnet20", "gdfq", "w3a3")
    assert quoted is not None and quoted[0] == 47.61 and "re-run by the authors of AdaDFQ" in quoted[1]


def test_a_number_knows_its_published_teacher_and_what_others_got() -> None:
    reference = load_reference(REFERENCE)
    pair = ("kd", "cifar10", "resnet34", "resnet18")
    assert reference.published_teacher(*pair, "adversarial_dfq") == 95.7
    got = {text.partition(" (")[0]: top1 for top1, text in reference.reproductions(*pair, "adversarial_dfq")}
    assert got == {"github.com/zju-vipa/CMI/issues/2": 88.89}
    ((teacher, _),) = reference.reproductions(*pair, "teacher")
    assert teacher == 93.94 and reference.reproductions(*pair, "cmi") == ()
    runs = reference.reproductions("kd", "cifar100", "resnet34", "resnet18", "dafl")
    assert sorted(top1 for top1, _ in runs) == [53.31, 62.39, 62.5]
    quantized = ("dfq", "imagenet", "resnet50", "resnet50")
    assert reference.published_teacher(*quantized, "zeroq", "w8a8") == 77.72
    assert reference.published_teacher(*quantized, "qimera", "w5a5") == 77.73
    assert reference.published_teacher("necil", "cifar100", "aia", "50+5x10", "pass", "", "resnet18") is None


@pytest.mark.parametrize(
    ("task", "place", "method", "top1"),
    [
        ("kd", ("cifar100", "wrn40_2", "wrn16_2"), "nayer", 71.72),
        ("necil", ("cifar100", "last", "10+9x10"), "r_dfcil", 42.14),
        ("necil", ("cifar100", "last", "10+9x10"), "lwf", 42.6),  # PyCIL's, not ABD's 9.2
        ("necil", ("cifar100", "last", "10+9x10"), "deepinversion", None),  # ABD's row is another method
    ],
)
def test_methods_point_at_their_own_rows(
    task: str, place: tuple[str, str, str], method: str, top1: float | None
) -> None:
    network = "resnet18" if task == "necil" else ""
    cell = load_reference(REFERENCE).published(task, *place, method, "", network)
    assert (cell and cell[0]) == top1


def test_published_numbers_stand_beside_their_case() -> None:
    frame = pd.DataFrame(
        [case_trial(case, "qimera", 1, 0, 90.0, dataset="cifar10") for case in ("w4a4", "w5a5", "w8a8")]
    )
    accuracies = accuracy_of(frame, load_reference(REFERENCE))
    table = accuracies.numbers.set_index("case")
    assert table.loc["w4a4", "published_percent"] == 91.26 and table.loc["w5a5", "published_percent"] == 93.46
    assert math.isnan(table.loc["w8a8", "published_percent"])
    note = accuracies.notes[-1]
    assert "quantizer and budget. Source: README of github.com/iamkang" in note
    teachers = table["published_teacher_percent"]
    assert teachers["w4a4"] == 93.89 and math.isnan(teachers["w8a8"])
    ours = frame["teacher_top1"].mean()
    assert table.loc["w5a5", "published_teacher_difference_points"] == pytest.approx(ours - 93.89)


def test_what_others_got_stands_below_the_published_number() -> None:
    frame = pd.DataFrame(
        [trial("dafl", 0, 0, 70.0, dataset="cifar100", teacher="resnet34", student="resnet18")]
    )
    reference = load_reference(REFERENCE)
    note = accuracy_of(frame, reference).notes[-1]
    got = reference.reproductions("kd", "cifar100", "resnet34", "resnet18", "dafl")
    assert len(got) > 1
    for top1, source in got:
        assert f"dafl {top1:.2f} ({source})" in note.partition("Reproduced by others: ")[2]
    unpublished = accuracy_of(frame.assign(dataset="digits"), reference)
    assert not any("Reproduced" in line for line in unpublished.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task: [", "not valid YAML"),
        ("- 1", "expected a mapping, found list"),
        ("task: kd", "tables: is missing"),
        ("task: kd\ntables: 3", "tables: expected a list, found 3"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [ab], top1: {}}]", "teacher/student"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: [1, 2]}}]", "needs 1 numbers"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: [101]}}]", "found 101"),
        ("task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {cmi: ['9']}}]", "found '9'"),
        (
            "task: dfq\ntables: [{source: s, dataset: d, bits: 4, pairs: [a/a], top1: {}}]",
            "bits: expected text",
        ),
        (
            "task: dfq\ntables: [{source: s, dataset: d, bits: '', pairs: [a/a], top1: {}}]",
            "bits: expected text",
        ),
        (
            "task: dfq\ntables: [{source: s, dataset: d, note: [], pairs: [a/a], top1: {}}]",
            "note: expected text",
        ),
        ("task: dfq\ntables: []\nmethods: {}\nabout: 3", "about: expected text, found 3"),
        (
            "task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {}, sdt: {}}]\nmethods: {}",
            "sdt: is unknown",
        ),
        (
            "task: kd\ntables: [{source: s, dataset: d, pairs: [a/b], top1: {}, std: {x: [1, 2]}}]",
            "row 'x' needs 1 numbers",
        ),
        (
            "task: necil\ntables: [{source: s, dataset: d, pairs: [aia/5+5x1], top1: {}}]",
            "'network' is missing",
        ),
        (
            "task: kd\ntables: [{source: s, dataset: d, network: n, pairs: [a/b], top1: {}}]",
            "'network' is for tables",
        ),
        (
            "task: kd\ntables: []\nmethods: {}\nreproduced: [{dataset: d, pairs: [], top1: {}}]",
            "source: is missing",
        ),
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
