"""A few real images without labels: where ranges come from, and what students are judged on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rgal.suite.task import Job, tasks
from rgal.tasks.quantization.task import Quantization
from tests.helpers import small
from tests.helpers.stopped_runs import outcome, run_in_pieces
from tests.helpers.trials import DOMAIN, OPTIONS, job

BITS: dict[str, Any] = OPTIONS["dfq"][0]


def given(seed: int, spread: float = 1.0) -> torch.Tensor:
    return (255 * spread * small.rand(12, *DOMAIN.shape, seed=seed)).to(torch.uint8)


def ranges(run: Quantization) -> dict[str, tuple[float, float]]:
    return {name: (float(q.low), float(q.high)) for name, q in run.student.activations().items()}


def quantization(method: str, images: torch.Tensor | None) -> Quantization:
    made: Job = replace(job("dfq", method, BITS, 0), unlabelled=images)
    run: Any = tasks()["dfq"].start(made)
    return run  # type: ignore[no-any-return]


def finished(run: Quantization) -> Quantization:
    while not run.finished:
        run.advance()
    return run


@pytest.mark.parametrize("method", ["naive", "zeroq", "gdfq", "rgal"])
def test_ranges_come_from_given_images_alone(method: str) -> None:
    """They are there before the first step, and synthesis does not move them."""
    run = quantization(method, given(1))
    before = ranges(run)
    assert ranges(finished(run)) == before
    assert ranges(quantization(method, given(1))) == before
    assert ranges(quantization(method, given(1, spread=0.3))) != before
    assert ranges(finished(quantization(method, None))) != before


def test_every_given_image_counts() -> None:
    images = given(1)
    more = torch.cat([images, given(2)])
    assert ranges(quantization("naive", more)) != ranges(quantization("naive", images))


def test_students_are_judged_on_them_beside_test_images() -> None:
    run = finished(quantization("zeroq", given(1)))
    result = run.result()
    assert {"last", "best", "real_agreement", "real_kl"} <= set(result) and "agreement" not in result
    assert "12 real images without labels" in result["judged_note"]
    assert "ranges from 12 real images" in result["calibration_note"]


def test_without_test_images_agreement_stands_in_for_accuracy() -> None:
    made = replace(job("kd", "plain", {}, 0), test=None, held_out=given(3), unlabelled=given(4))
    run: Any = tasks()["kd"].start(made)
    rows = []
    while not run.finished:
        rows += run.advance()
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    assert evaluations and all(
        {"agreement", "kl", "real_agreement", "real_kl"} <= set(row) for row in evaluations
    )
    assert not any("top1" in row for row in rows)
    result = run.result()
    assert not {"last", "best", "teacher_top1"} & set(result)
    assert (result["agreement"], result["kl"]) == (evaluations[-1]["agreement"], evaluations[-1]["kl"])
    assert 0 < result["confidence_low"] <= result["confidence_median"] <= result["confidence_high"] <= 100


@pytest.mark.usefixtures("no_report", "no_pictures")
def test_a_stopped_run_without_data_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.helpers import own_network

    with own_network.workplace(tmp_path):
        described = [*own_network.DESCRIBED, *own_network.TEACHER, *own_network.STUDENT]
        short = ["--set", "rounds=3", "held_out={images: 8, steps: 2, batch: 8}"]
        command = [*described, "--methods", "rgal", "--budget", "smoke", *short]
        assert own_network.run(*described, "--methods", "rgal", *short, results="whole") == 0
        run_in_pieces([*command, "--results", "cut"], tmp_path, monkeypatch)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    assert "agreement" in json.loads(outcome(tmp_path / "cut")["final"])
