"""What a person sees of a running trial: the time left survives a narrow terminal, a log stays short."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest

from rgal.suite.running import console


def message(done: float = 0.41) -> Any:
    position = SimpleNamespace(
        unit="round", at=3, of=20, mode="student", done=done, at_least=False, remaining_seconds=3725.0
    )
    return SimpleNamespace(position=position, loss=1.234, measured="top-1 88.20 %")


def test_the_time_left_stands_within_eighty_columns() -> None:
    title = "deepinversion[steps=2000,bn=10]+rgal seed 0"
    text = console.line(title, message())
    assert text == f"{title} | 41 %, 1:02:05 left | round 3/20 student | loss 1.23 | top-1 88.20 %"
    assert "left" in text[:80]


def test_a_log_has_a_line_a_minute_whatever_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = console.Console(2, 2, stream)
    jobs: list[Any] = [SimpleNamespace(title="a"), SimpleNamespace(title="b")]
    for second in range(0, 181, 5):
        now[0] = float(second)
        for job in jobs:
            shown.report(job, message())
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["a", "a", "a"]
