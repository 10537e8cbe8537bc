"""The results, curves and quantizers that the tests of rgal.reporting report."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from rgal.reporting.figures import write as plots
from rgal.reporting.published import NO_REFERENCE, Reference
from rgal.reporting.results import ResultGroup
from rgal.reporting.tables.accuracy import accuracy_table
from rgal.reporting.tables.diversity import diversity_table
from rgal.reporting.tables.export import export_table
from rgal.reporting.tables.plugin import plugin_table
from rgal.reporting.tables.table import Table
from rgal.reporting.tables.write import all_tables, save_tables

REFERENCE = Path(__file__).parents[2] / "benchmarks" / "reference"
TEX = next(filter(None, map(shutil.which, ("pdflatex", "xelatex", "tectonic"))), None)
needs_tex = pytest.mark.skipif(TEX is None, reason="no LaTeX on this machine")
CMI_README = "README of github.com/zju-vipa/CMI"


def count_drawings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Draw no figure. Returns the formats of the files that would hold one; a file says which of them it is."""
    formats: list[str] = []

    def draw(_: Figure, fmt: str) -> bytes:
        formats.append(fmt)
        number = f"{len(formats)}"
        return f'<svg width="72pt" height="36pt">{number}</svg>'.encode() if fmt == "svg" else number.encode()

    monkeypatch.setattr(plots, "figure_bytes", draw)
    return formats


def draw_svg_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw all that a figure shows as SVG and leave its PNG, which takes three times as long, empty."""
    draw = plots.figure_bytes
    monkeypatch.setattr(plots, "figure_bytes", lambda figure, fmt: draw(figure, fmt) if fmt == "svg" else b"")


def trial(method: str, order: int, seed: int, last: float, **other: object) -> dict[str, object]:
    """One row of `results`, finished unless `other` says something else."""
    return {
        "key": f"{method}-{seed}",
        "task": "kd",
        "setting": "cifar10 wrn40_2 -> wrn16_1",
        "budget": "small",
        "dataset": "cifar10",
        "teacher": "wrn40_2",
        "student": "wrn16_1",
        "method": method,
        "order": order,
        "seed": seed,
        "status": "finished",
        "reason": "",
        "data_free": True,
        "last": last,
        "best": last + 5,
        "teacher_top1": 95.0,
        "images": 51200,
        "synthesis_steps": 80000,
        "student_steps": 40000,
        "synthesis_seconds": 1234.4,
        "student_seconds": 12.345,
        "image_note": "",
        **other,
    }


def some_results() -> pd.DataFrame:
    """cmi 90, 92, 94 (mean 92, std 2); cmi+rgal once; deepinversion 1 of 2; dafl fails; scratch is real."""
    failed = {"status": "failed", "reason": "out of memory", "images": 0}
    return pd.DataFrame(
        [
            trial("cmi", 2, 0, 90.0),
            trial("cmi", 2, 1, 92.0, images=51201, synthesis_seconds=1235.4),
            trial("cmi", 2, 2, 94.0),
            trial("cmi+rgal", 3, 0, 93.456),
            trial("deepinversion", 1, 0, 80.0),
            trial("deepinversion", 1, 1, 10.0, status="interrupted"),
            trial("dafl", 0, 0, math.nan, **failed),
            trial("dafl", 0, 1, math.nan, **failed),
            trial("scratch", 9, 0, 91.5, data_free=False, images=0, synthesis_steps=0, synthesis_seconds=0.0),
        ]
    )


def some_curves(results: pd.DataFrame) -> pd.DataFrame:
    """Four rounds a trial, ten seconds and 100 images each; cmi-2 lacks the third round."""
    rows = [
        {
            "key": row.key,
            "round": r,
            "seconds": 10.0 * r + row.seed,
            "images": 100 * r,
            "top1": row.last - 4 + r,
        }
        for row in results.itertuples()
        for r in (1, 2, 3, 4)
        if row.status == "finished" and not (row.key == "cmi-2" and r == 3)
    ]
    return pd.DataFrame(rows)


def case_trial(
    case: str, method: str, order: int, seed: int, last: float, **other: object
) -> dict[str, object]:
    """One row of `results` of a task with cases: "w8a8", then "w4a4"."""
    columns = {
        "key": f"{case}-{method}-{seed}",
        "task": "dfq",
        "setting": "cifar10 resnet20, paper placement",
        "teacher": "resnet20",
        "student": "resnet20",
        "case": case,
        "case_order": {"w8a8": 0, "w4a4": 1}.get(case, 2),
        "case_title": "Bits",
        "model_mb": {"w8a8": 0.25, "w4a4": 0.125}.get(case, math.nan),
        "float_mb": 1.0,
    }
    return trial(method, order, seed, last, **{**columns, **other})


def exported(mb: float, latency_64: float, float_latency_64: float, **other: object) -> dict[str, object]:
    """What a trial measured of its exported model."""
    return {
        "onnx_top1": 91.0,
        "onnx_agreement": 0.99,
        "onnx_mb": mb,
        "onnx_float_mb": 1.2,
        "integer_layers": 21,
        "layers": 21,
        "latency_ms_1": 0.5,
        "float_latency_ms_1": 1.0,
        "latency_ms_64": latency_64,
        "float_latency_ms_64": float_latency_64,
        "onnx_note": "",
        **other,
    }


def some_cases() -> pd.DataFrame:
    """w8a8: gdfq 92, 94, zeroq 90; w4a4: gdfq 80, 84, zeroq fails; ptq, on real data, 94 and 85.

    Exported: both of gdfq at w8a8, and gdfq's first at w4a4, without integer layers.
    """
    slow = {"onnx_note": "4-bit activations run as float", "integer_layers": 0}
    return pd.DataFrame(
        [
            case_trial("w4a4", "gdfq", 1, 0, 80.0, **exported(0.15, 100.0, 50.0, **slow)),
            case_trial("w4a4", "gdfq", 1, 1, 84.0),
            case_trial("w4a4", "zeroq", 0, 0, math.nan, status="failed", reason="out of memory"),
            case_trial("w4a4", "ptq", 9, 0, 85.0, data_free=False),
            case_trial("w8a8", "gdfq", 1, 0, 92.0, **exported(0.3, 25.0, 50.0)),
            case_trial("w8a8", "gdfq", 1, 1, 94.0, **exported(0.3, 20.0, 60.0, onnx_agreement=0.97)),
            case_trial("w8a8", "zeroq", 0, 0, 90.0),
            case_trial("w8a8", "ptq", 9, 0, 94.0, data_free=False),
        ]
    )


def some_layers(results: pd.DataFrame) -> pd.DataFrame:
    """Weights conv1, conv2, fc at 0, 2, 4 and activations relu1, relu2 at 1, 3 of every finished trial.

    A range ends at 4 (relu1) or 8 (relu2) plus the seed, test images reach 5 and 9; the noise is 20 dB plus the
    index, of weights 30 dB.
    """
    names = ("conv1", "relu1", "conv2", "relu2", "fc")
    rows = []
    for row in results[results["status"] == "finished"].itertuples():
        for index, layer in enumerate(names):
            of_weights = index % 2 == 0
            rows.append(
                {
                    "key": row.key,
                    "method": row.method,
                    "case": row.case,
                    "seed": row.seed,
                    "index": index,
                    "layer": layer,
                    "kind": "weight" if of_weights else "activation",
                    "bits": 4,
                    "low": -1.0 if of_weights else 0.0,
                    "high": 1.0 if of_weights else 4.0 + 2 * (index - 1) + row.seed,
                    "seen_low": math.nan if of_weights else 0.0,
                    "seen_high": math.nan if of_weights else 5.0 + 2 * (index - 1),
                    "sqnr_db": 30.0 if of_weights else 20.0 + index,
                }
            )
    return pd.DataFrame(rows)


def accuracy_of(results: pd.DataFrame, reference: Reference = NO_REFERENCE) -> Table:
    return accuracy_table(ResultGroup(results), reference)


def plugins_of(results: pd.DataFrame) -> Table:
    return plugin_table(ResultGroup(results))


def exports_of(results: pd.DataFrame) -> Table:
    return export_table(ResultGroup(results))


def diversity_of(results: pd.DataFrame) -> Table:
    return diversity_table(ResultGroup(results))


def write_tables(
    results: pd.DataFrame, folder: str | Path, reference: Reference = NO_REFERENCE
) -> list[Path]:
    """Write all tables of these results."""
    return save_tables(all_tables(results, reference), folder)


def by_method(table: Table) -> pd.DataFrame:
    """The raw numbers of a table, by method."""
    return table.numbers.set_index("method")


def compile_latex(path: Path) -> None:
    """Fail if a TeX engine does, or if it says that something runs off the page."""
    assert TEX is not None
    quietly = [] if TEX.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([TEX, *quietly, path.name], cwd=path.parent, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert "too large" not in said and "Overfull" not in said, said[-2000:]
