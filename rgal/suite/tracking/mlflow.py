"""MLflow: a run a trial, with its settings as parameters; to MLFLOW_TRACKING_URI, or RESULTS/mlflow without one.

These are plain files, which any number of processes can write, unlike a database in one file. MLflow 3 wants to be told
that they are meant: `MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri RESULTS/mlflow` shows them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rgal.engine.options import Row
from rgal.suite.tracking.scalars import Scalars, flat, seconds
from rgal.suite.tracking.tracker import Tracked, Watch

MOST = 500  # numbers, or parameters, in one request; MLflow takes 1,000 and 100
MOST_PARAMETERS = 100
LONGEST = 500  # characters of a parameter


class _Run:
    """Sends rows to a run. Times are those that training took."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id, self.scalars = client, run_id, Scalars()
        self.began = 0.0

    def __call__(self, rows: list[Row]) -> None:
        from mlflow.entities import Metric

        if not self.began:
            self.began = time.time() - (seconds(rows[-1]) if rows else 0.0)
        metrics = [
            Metric(name, value, round(1000 * (self.began + seconds(row))), step)
            for row in rows
            for name, value, step in self.scalars.of(row)
        ]
        for start in range(0, len(metrics), MOST):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + MOST])


@contextmanager
def mlflow_run(trial: Tracked) -> Iterator[Watch]:
    """Send rows to a new run of the trial's name, in place of those that were begun under it."""
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient

    server = os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(server or (trial.root.absolute() / "mlflow").as_uri())
    experiment = _experiment(client, os.environ.get("MLFLOW_EXPERIMENT_NAME") or "rgal")
    for old in client.search_runs([experiment], f"tags.`rgal.trial` = '{trial.name}'"):
        client.delete_run(old.info.run_id)
    run_id = client.create_run(experiment, run_name=trial.name, tags={"rgal.trial": trial.name}).info.run_id
    parameters = [Param(name, str(value)[:LONGEST]) for name, value in flat(trial.settings).items()]
    for start in range(0, len(parameters), MOST_PARAMETERS):
        client.log_batch(run_id, params=parameters[start : start + MOST_PARAMETERS])
    status = "FAILED"
    try:
        yield _Run(client, run_id)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


def _experiment(client: Any, name: str) -> str:
    """Return the id of the experiment of this name; of several trials that begin at once, one makes it."""
    from mlflow.exceptions import MlflowException

    for _ in range(2):
        known = client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another trial has just made it
            continue
    return str(client.create_experiment(name))
