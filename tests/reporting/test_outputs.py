"""What a run lists at its end: the files of the best student first."""

from __future__ import annotations

from pathlib import Path

from rgal.reporting.outputs import output_lines
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import load_records
from tests.helpers.store_builders import add_trial, settings


def test_the_best_data_free_student_is_listed_first(tmp_path: Path) -> None:
    results = {"cmi": 90.0, "rgal": 95.0, "scratch": 99.0}
    for name, last in results.items():
        folder = add_trial(tmp_path, name, settings(name), last=last, data_free=name != "scratch")
        (folder / "student.safetensors").touch()
    records = load_records(Store(tmp_path))
    lines = output_lines(records, {record.key for record in records})
    assert [line.split(": ")[0] for line in lines[:2]] == ["student's weights"] * 2
    assert "rgal" in lines[0] and "cmi" in lines[1] and lines[2].startswith("and those of 1 more trial")
