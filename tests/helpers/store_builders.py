"""Whole results directories, written as runs write them, and spoilt in every way."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from rgal.suite.store.folders import SCHEMA, Store, write_json

ENVIRONMENT = {
    "rgal": "0.1.0",
    "revision": "abc1234",
    "python": "3.11.7",
    "torch": "2.15.0",
    "platform": "Linux",
    "processor": "AMD EPYC",
    "threads": 1,
    "gpu": None,
    "started": "2026-11-25T21:11:34+0000",
    "pid": 1,
}
RESULT = {
    "schema": SCHEMA,
    "status": "finished",
    "reason": "",
    "data_free": True,
    "best": 93.0,
    "teacher_top1": 98.0,
    "images": 512,
    "synthesis_steps": 100,
    "student_steps": 200,
    "synthesis_seconds": 12.5,
    "student_seconds": 7.5,
}


def settings(method: str = "cmi", seed: int = 0, **other: object) -> dict[str, Any]:
    return {
        "task": "kd",
        "setting": "digits wrn16_1 -> wrn10_1",
        "budget": "small",
        "dataset": "digits",
        "teacher": "wrn16_1",
        "student": "wrn10_1",
        "case": "",
        "case_order": 0,
        "case_title": "",
        "method": method,
        "order": 0,
        "seed": seed,
        **other,
    }


def add_trial(
    root: Path, key: str, asked: dict[str, Any] | None = None, points: int = 3, /, **result: object
) -> Path:
    """A trial's folder with all its files; `result` changes the numbers. Its accuracy rises to `last`, 92 %."""
    asked = asked or settings()
    folder = Store(root).trial_folder(f"{asked['task']}-{asked['method']}-s{asked['seed']}", key)
    folder.mkdir(parents=True)
    record = {"schema": SCHEMA, "key": key, "settings": asked, "environment": ENVIRONMENT}
    write_json(folder / "trial.json", record)
    numbers = {**RESULT, "last": 92.0, **result}
    write_json(folder / "result.json", numbers)
    lines = [evaluation(r, float(numbers["last"]) - points + r) for r in range(1, points + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def evaluation(round_: int, top1: float) -> dict[str, object]:
    """A row of metrics.jsonl."""
    return {
        "kind": "evaluation",
        "round": round_,
        "images": 100 * round_,
        "student_steps": 50 * round_,
        "synthesis_seconds": 4.0 * round_,
        "student_seconds": 2.0 * round_,
        "top1": top1,
    }


def change(path: Path, /, **fields: object) -> None:
    """Set fields of a JSON file; `...` removes one."""
    content = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def grid_png(width: int = 60, height: int = 40, noise: bool = False) -> bytes:
    """A picture: grey, or noise that compresses badly."""
    image = Image.effect_noise((width, height), 90) if noise else Image.new("L", (width, height), 128)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()
