"""Stores of made-up finished trials: the records that a run of the digits writes, without any training."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from rgal.suite.plan.trial import Trial
from rgal.suite.store.records import SCHEMA

METHODS = (
    "scratch", "deepinversion", "deepinversion+rgal", "adaptive_deepinversion", "adaptive_deepinversion+rgal",
    "plain", "plain+rgal", "cmi", "cmi+rgal", "rgal", "fast", "fast+rgal", "fast[k=2]", "fast[k=2]+rgal", "dafl",
    "dafl+rgal", "zskt", "dfad", "adversarial_dfq", "nayer",
)  # fmt: skip
TEACHERS = ("wrn16_2", "wrn16_1", "resnet20", "resnet14", "resnet32")
STUDENTS = ("wrn10_1", "resnet8", "wrn40_1", "resnet44")
ROUNDS, POINTS, BINS = 6, 400, 40


def write_suite(path: Path, trials: int, a_setting: int) -> Path:
    """Write the suite file of a command with so many trials: METHODS x seeds of as many pairs of networks as it takes.

    Args:
        path: of the file.
        trials: how many trials the command has; a multiple of `a_setting`.
        a_setting: trials of each pair of networks, a multiple of the number of METHODS.
    """
    pairs = [(teacher, student) for student, teacher in product(STUDENTS, TEACHERS)]
    suite = {
        "title": "Made-up trials",
        "task": "kd",
        "dataset": "digits",
        "pairs": [{"teacher": t, "student": s} for t, s in pairs[: trials // a_setting]],
        "methods": list(METHODS),
        "seeds": list(range(a_setting // len(METHODS))),
        "budget": "small",
        "budgets": {"small": {"rounds": ROUNDS, "synthesis_steps": 100, "student_steps": 180}},
    }
    path.write_text(yaml.safe_dump(suite), encoding="utf-8")
    return path


def write_trials(root: Path, trials: Sequence[Trial], codes: dict[str, str]) -> None:
    """Write the folders of finished trials below a results directory.

    Args:
        root: the results directory.
        trials: as a plan has them.
        codes: fingerprint of the code that would make each trial, by its key.
    """
    grids = [_grid(number) for number in range(8)]
    for trial in trials:
        folder = root / "trials" / f"{trial.name}-{trial.key}"
        folder.mkdir(parents=True)
        draw = random.Random(trial.key)
        last = 80 + 2 * trial.order / len(METHODS) + draw.gauss(0, 3)
        records = {
            "trial": _trial(trial, codes[trial.key], draw),
            "result": _result(last, draw),
            "diversity": _diversity(draw),
        }
        for name, content in records.items():
            (folder / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        rows = [json.dumps(row, sort_keys=True) + "\n" for row in _metrics(last)]
        (folder / "metrics.jsonl").write_text("".join(rows))
        (folder / "samples.png").write_bytes(grids[trial.order % len(grids)])


def _trial(trial: Trial, code: str, draw: random.Random) -> dict[str, Any]:
    environment = {
        "gpu": None, "pid": draw.randrange(2, 99999), "platform": "Linux", "processor": "made up", "python": "3.11.7",
        "revision": "0000000", "rgal": "0.1.0", "slots": 2, "threads": 1, "torch": "2.15.0",
        "started": f"2026-01-{draw.randrange(1, 29):02}T{draw.randrange(24):02}:00:00Z",
    }  # fmt: skip
    return {
        "schema": SCHEMA, "key": trial.key, "fingerprint": code, "settings": trial.settings(),
        "environment": environment,
    }  # fmt: skip


def _spent(share: float) -> dict[str, float]:
    """Return what a trial has used after a share of its rounds."""
    return {
        "images": round(576 * share), "synthesis_steps": round(600 * share), "student_steps": round(1080 * share),
        "synthesis_seconds": 196.11 * share, "student_seconds": 68.42 * share,
        "synthesis_cpu_seconds": 80.56 * share, "student_cpu_seconds": 29.06 * share,
    }  # fmt: skip


def _result(last: float, draw: random.Random) -> dict[str, Any]:
    return {
        "schema": SCHEMA, "status": "finished", "reason": "", "data_free": True, "encoding": "", "last": last,
        "best": last + abs(draw.gauss(0, 1)), "teacher_top1": 99.2, "test_images": 500, **_spent(1.0),
    }  # fmt: skip


def _metrics(last: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(1, ROUNDS + 1):
        spent = {"round": number, **_spent(number / ROUNDS)}
        top1 = last - 20 * math.exp(-number)
        rows += [
            {"kind": "synthesis", **spent, "adv": -0.1, "bn": 6.7, "cr": 3.2, "oh": 1.3, "total": 11.1},
            {"kind": "student", **spent, "kd": 0.6, "total": 0.6},
            {"kind": "evaluation", **spent, "top1": top1},
        ]
    return rows


def _diversity(draw: random.Random) -> dict[str, Any]:
    same, different = draw.uniform(0.3, 0.5), draw.uniform(1.1, 1.3)
    means = {
        "same": same, "different": different, "in_band": 0.03, "fallback": 0.27, "student_same": same + 0.02,
        "student_different": different - 0.1,
    }  # fmt: skip
    histogram = [round(1000 * math.exp(-((place - 20) ** 2) / 50)) for place in range(BINS)]
    return {
        "schema": 1, "warmup": 0, "band": [0.5, 1.0], "bins": {"count": BINS, "low": 0.0, "high": 2.0},
        "after_warmup": {**means, "same_pairs": 2729, "different_pairs": 24631}, "last": means,
        "rounds": [{"round": number, "images": 96, **means} for number in range(1, ROUNDS + 1)],
        "histograms": dict.fromkeys(("same", "different", "negatives"), histogram),
        "embedding": {
            "x": [round(draw.gauss(0, 10), 3) for _ in range(POINTS)],
            "y": [round(draw.gauss(0, 10), 3) for _ in range(POINTS)],
            "label": [place % 10 for place in range(POINTS)],
            "synthetic": [place < POINTS // 2 for place in range(POINTS)],
        },
    }  # fmt: skip


def _grid(number: int) -> bytes:
    """Draw noise as a sample grid has it: ten images of 8 x 8 a row, each eight times as large."""
    draw = random.Random(number)
    image = Image.frombytes("L", (80, 80), draw.randbytes(80 * 80)).resize(
        (320, 320), Image.Resampling.NEAREST
    )
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()
