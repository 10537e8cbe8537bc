"""Weights & Biases: a run a trial, with its settings as configuration; offline unless WANDB_API_KEY or WANDB_MODE says
otherwise, below RESULTS/wandb. `wandb sync` sends what was written offline.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rgal.engine.options import Row
from rgal.suite.tracking.scalars import Scalars, flat
from rgal.suite.tracking.tracker import Tracked, Watch

AXES = {
    "synthesis": "synthesis_steps",
    "student": "student_steps",
    "evaluation": "student_steps",
    "cost": "steps",
}


class _Run:
    """Logs rows. Each kind of number has an axis of its own: the steps of its kind."""

    def __init__(self, run: Any) -> None:
        self.run, self.scalars = run, Scalars()
        for kind, axis in AXES.items():
            run.define_metric(axis, hidden=True)
            run.define_metric(f"{kind}/*", step_metric=axis)

    def __call__(self, rows: list[Row]) -> None:
        for row in rows:
            by_step: dict[tuple[str, int], dict[str, float]] = {}
            for name, value, step in self.scalars.of(row):
                axis = AXES.get(name.partition("/")[0], "steps")
                by_step.setdefault((axis, step), {})[name] = value
            for (axis, step), values in by_step.items():
                self.run.log({**values, axis: step})


@contextmanager
def wandb_run(trial: Tracked) -> Iterator[Watch]:
    """Log rows to a new run. One that is taken up again is whole in a new run of the same group."""
    import wandb

    folder = trial.root / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or "rgal",
        group=trial.name,
        name=trial.name,
        dir=str(folder),
        config=flat(trial.settings),
        mode=os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline"),
        reinit="create_new",
        settings=wandb.Settings(console="off", silent=True),
    )
    code = 1
    try:
        yield _Run(run)
        code = 0
    finally:
        run.finish(exit_code=code)
