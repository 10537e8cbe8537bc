"""The speed benchmark: what it runs, what its floor is, and the table that is made of its rows."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rgal.benchmarks.speed import __main__ as speed
from rgal.benchmarks.speed import against
from rgal.benchmarks.speed.cases import CASES, DIGITS, Case, Running
from rgal.benchmarks.speed.checkout import trimmed, watch
from rgal.benchmarks.speed.measure import Cost, Floor, folded, measure, recorded
from rgal.benchmarks.speed.table import BEFORE, BEGIN, END, HEAD, with_table
from rgal.engine.run import TransferRun
from rgal.suite.running.teachers import build_net
from tests.helpers import small

SMALL = [case for case in CASES if case.domain == DIGITS]
NETS = {case.task: (case.teacher, case.student) for case in SMALL}


def first_step(case: Case, kind: str, batch: int = 6) -> tuple[Running, Any]:
    """A run that is about to do its first step of this kind."""
    running = Running(case, batch, 2, small.DEVICE, "fp32")
    while (transfer := running.transfer()).schedule.due() != kind or transfer.mode != kind:
        running.advance()
    return running, transfer


@pytest.mark.parametrize("kind", ["synthesis", "student"])
@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.task}-{case.method}")
def test_the_batch_reaches_every_kind_of_step_of_every_case(case: Case, kind: str) -> None:
    running, transfer = first_step(case, kind)
    calls = recorded(transfer, running.advance)
    shown = 12 if case.task == "necil" and kind == "student" else 6  # new images, and as many replayed ones
    assert {call.shape[0] for call in calls} <= {6, shown}
    assert max(call.shape[0] for call in calls) == shown


def test_a_method_that_mixes_images_is_timed_with_its_mixtures() -> None:
    case = Case("kd", "rgal[fmix=true]", DIGITS, *NETS["kd"])
    _, transfer = first_step(case, "student")
    assert transfer.loop.spec.augmentation.fmix


def test_folded_networks_give_the_same_logits_with_fewer_layers() -> None:
    for name in ("wrn16_2", "resnet8"):
        net = build_net(name, DIGITS, small.DEVICE, "folded").eval()
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        x, bare = torch.randn(3, 1, 8, 8), folded(net)
        torch.testing.assert_close(bare(x), net(x), rtol=1e-4, atol=1e-4)
        norms = [sum(isinstance(layer, nn.BatchNorm2d) for layer in each.modules()) for each in (net, bare)]
        assert norms[1] < norms[0]


def test_the_floor_passes_what_the_step_passes_and_changes_nothing_that_is_trained() -> None:
    running, transfer = first_step(SMALL[0], "student")
    floor = Floor(transfer, "student", recorded(transfer, running.advance), "fp32")
    assert [(shape, graded) for _, shape, graded in floor.calls].count((torch.Size([6, 1, 8, 8]), True)) == 1
    before = copy.deepcopy(list(transfer.student.parameters()))
    floor()
    assert all(torch.equal(a, b) for a, b in zip(before, transfer.student.parameters(), strict=True))
    assert transfer.problem.teacher not in {net for net, _, _ in floor.calls}, "the teacher is folded"


def test_rows_hold_the_ratio_and_its_spread() -> None:
    case = Case("kd", "cmi", DIGITS, "wrn10_1", "wrn10_1", block=2)
    synthesis, student = measure(case, 4, 2, small.DEVICE, "fp32")
    assert (synthesis["step"], student["step"]) == ("synthesis", "student")
    for row in (synthesis, student):
        ratio = row["ratio"]
        assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
        assert row["cpu_seconds"] > 0 and row["wall_seconds"] > 0 and row["kernels"] is None


def test_costs_add_up() -> None:
    assert Cost(1.0, 2.0, 3.0, 4) + Cost(0.5, 0.25, 0.0, 1) == Cost(1.5, 2.25, 3.0, 5)


def test_the_command_prints_and_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speed.json"
    speed.main(["--batch", "2", "--repeats", "1", "--only", "dfq rgal, resnet8", "--json", str(file)])
    measured = json.loads(file.read_text())
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "batch 2" in heading and len(lines) == len(measured["rows"]) == 2
    document = with_table(f"# Speed\n{BEGIN}\nold\n{END}\nmore\n", measured)
    assert document.startswith(f"# Speed\n{BEGIN}\n") and document.endswith(f"{END}\nmore\n")
    table = [row for row in document.splitlines() if row.startswith("|")]
    assert len(table) == 4 and all(row.count("|") == len(HEAD) + 1 for row in table) and "old" not in document
    assert with_table(document, measured) == document


def test_a_choice_without_a_case_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(["--only", "nothing"])
    assert "error: --only 'nothing': in none of the titles kd rgal" in capsys.readouterr().err


def test_the_table_of_the_documents_is_that_of_its_json() -> None:
    docs = Path(__file__).parents[2] / "docs"
    document = (docs / "speed.md").read_text(encoding="utf-8")
    assert with_table(document, json.loads((docs / "speed.json").read_text())) == document


# Beside another revision -----------------------------------------------------------------------------------------


def side(synthesis: float, student: float, peak: float) -> dict[str, Any]:
    return {"seconds": {"synthesis": synthesis, "student": student}, "peak_mib": peak}


def test_rows_beside_another_revision_have_ratios_of_neighbours() -> None:
    """Of pairs that were measured one after the other: 4 and 3 times, whatever else the machine did in between."""
    pairs = [(side(0.8, 0.2, 900), side(0.2, 0.2, 800)), (side(0.3, 0.4, 910), side(0.1, 0.2, 820))]
    synthesis, student = against.rows("rgal", pairs)
    assert synthesis["ratio"] == {"median": pytest.approx(3.5), "least": pytest.approx(3), "most": 4.0}
    assert student["ratio"]["median"] == 1.5 and synthesis["before_mib"] == 905 and student["now_mib"] == 810
    measured = {"environment": {"before": "97f6926", "repeats": 2}, "rows": [synthesis, student]}
    begin, end = BEFORE
    document = with_table(f"# Speed\n{BEGIN}\nkept\n{END}\n{begin}\nold\n{end}\n", measured)
    assert "kept" in document and "old" not in document and "before 97f6926, repeats 2." in document
    assert "| 550.0 | 150.0 | 3.50 | 3.00 to 4.00 | 905 to 810 |" in document


def test_steps_of_a_run_are_timed_but_the_first_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change from one kind to the other is no step, and what a step costs is a mean without its extremes."""
    running, found = Running(SMALL[0], 4, 6, small.DEVICE, "fp32"), []
    monkeypatch.setattr(TransferRun, "advance", TransferRun.advance)
    watch({"synthesis": 6, "student": 8}, found.append)
    while not found:
        running.advance()
    (seconds,) = found
    assert set(seconds) == {"synthesis", "student"} and all(value > 0 for value in seconds.values())
    assert trimmed([9.0, *[1.0] * 8, 0.0]) == 1.0
