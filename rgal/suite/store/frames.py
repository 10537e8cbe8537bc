"""The store as tables: what reporting is a function of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, StrictStr, model_validator

from rgal.suite.measures import COMMON
from rgal.suite.plan.initial_pool import row_name
from rgal.suite.store.diversity import Diversity, diversity_frames, summary_columns
from rgal.suite.store.folders import Metrics, Store
from rgal.suite.store.records import (
    ODD,
    SETTINGS,
    Count,
    Number,
    Part,
    Percentage,
    Record,
    Whole,
    key_of,
    measured_fault,
    numbers_of,
    read_json,
    read_record,
    valid,
)
from rgal.suite.task import measures_of

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = dict[str, Any]  # of results: a trial
Point: TypeAlias = dict[str, Any]  # of a curve: an evaluation
# Given images that make a row another than the method's own -> what its name has behind it.
IN_THE_NAME = {"init_pool_key": "pool", "calibration_key": "cal"}
# What the records of a trial's layers, phases and evaluations repeat of it.
TRIAL_COLUMNS = ["key", "task", "setting", "budget", "method", "case", "seed"]
PHASE_COLUMNS = [*TRIAL_COLUMNS, "phase", "classes", "top1", "old_top1", "new_top1"]
CURVE_COLUMNS = [*TRIAL_COLUMNS, "round", "seconds", "cpu_seconds", "images", "student_steps", "top1"]
RESULT_COLUMNS = list(
    dict.fromkeys(
        name
        for name in ("key", *SETTINGS, "started", "fingerprint", "status", "reason", "data_free")
        if name not in IN_THE_NAME
    )
) + list(dict.fromkeys(measure.key for measure in COMMON if measure.key != "initial_images"))

SAME_TRIAL = ("task", "setting", "budget", "case", "method", "seed")


class Evaluation(Part):
    """A row of metrics.jsonl that is a point of a curve."""

    kind: Literal["evaluation"]
    round: Whole
    top1: Percentage | None = None
    images: Number | None = None
    student_steps: Number | None = None
    synthesis_seconds: Number = 0.0
    student_seconds: Number = 0.0
    synthesis_cpu_seconds: Number | None = None
    student_cpu_seconds: Number | None = None

    def totals(self, device: str) -> dict[str, float]:
        """Seconds of the clock, and those of the processor where the trial ran on one and they are known."""
        cpu = (self.synthesis_cpu_seconds, self.student_cpu_seconds)
        known = device == "cpu" and None not in cpu
        return {
            "seconds": self.synthesis_seconds + self.student_seconds,
            "cpu_seconds": sum(filter(None, cpu)) if known else math.nan,
        }


class Layer(Part):
    """The head of an entry of layers.json: the quantizer that it is of."""

    layer: StrictStr
    index: Whole
    kind: Literal["weight", "activation"]


class Phase(Part):
    """An entry of phases.json. tasks: [correct, total] images of the classes of each phase up to this one."""

    phase: Count
    classes: Annotated[Count, Field(ge=1)]
    tasks: list[Annotated[list[Count], Field(min_length=2, max_length=2)]]

    @model_validator(mode="after")
    def _counts(self) -> Phase:
        if len(self.tasks) != self.phase + 1 or not all(0 < total >= right for right, total in self.tasks):
            raise ValueError("expected one share of test images a phase")
        return self

    def row(self) -> dict[str, float]:
        """Return the percentages of the test images of all classes so far, of those of earlier phases and of this
        phase's own.
        """
        shares = {"top1": self.tasks, "old_top1": self.tasks[:-1], "new_top1": self.tasks[-1:]}
        accuracies = {name: _percent(tasks) for name, tasks in shares.items()}
        return {"phase": self.phase, "classes": self.classes, **accuracies}


# What an entry of the list in NAME.json must be.
LISTS: dict[str, type[BaseModel]] = {"layers": Layer, "phases": Phase}


def make_frames(records: Sequence[Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (results, curves) of these records: the columns that every store has first, then what else its tasks
    measure.

    Odd records (see `Record`) appear with their status and reason. Those whose settings cannot be told have none:
    `identified` leaves them out.
    """
    rows = [result_row(record) for record in records]
    points = [point for record, row in zip(records, rows, strict=True) for point in curve_points(record, row)]
    return frames_of(rows, points)


def frames_of(rows: Sequence[Row], points: Sequence[Point]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (results, curves) of rows that `result_row` and points that `curve_points` made."""
    return _frame(rows, RESULT_COLUMNS), _frame(points, CURVE_COLUMNS)


def _frame(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> pd.DataFrame:
    """Return the rows with these columns first, then all others by name."""
    import pandas as pd  # here: a store in which nothing has changed needs none of it, and it takes long to import

    more = sorted({name for row in rows for name in row} - set(first))
    return pd.DataFrame(rows).reindex(columns=[*first, *more])


def load_records(store: Store) -> list[Record]:
    """Return the record of every folder below trials/, in the order of their names."""
    return [read_record(folder) for folder in store.trial_folders()]


def identified(results: pd.DataFrame) -> pd.DataFrame:
    """Return the trials whose settings are known: what tables and plots can hold."""
    return results[results["method"].notna()].astype({"seed": "int64"})  # beside unknown ones it was a float


def newest_results(records: Sequence[Record]) -> pd.DataFrame:
    """Return the rows that tables are made of: one trial of each method, case and seed, each with what tells it."""
    return newest(identified(make_frames(records)[0]))


def newest(results: pd.DataFrame) -> pd.DataFrame:
    """Keep one trial for each method, case and seed of a budget: the one that was started last, an odd one only if it
    is alone.

    A budget that is edited under its old name makes new trials beside the old ones; they must not be averaged.
    """
    ordered = results.assign(sound=~results["status"].isin(ODD)).sort_values(
        ["sound", "started"], kind="stable"
    )
    unknown = ordered["method"].isna()
    kept = ordered[unknown | ~ordered.duplicated([*SAME_TRIAL], keep="last")]
    return results[results.index.isin(kept.index)]


def load_layers(store: Store, results: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each layer of every finished trial that recorded its layers (layers.json)."""
    import pandas as pd

    return pd.DataFrame([numbers_of(layer) | trial for trial, layer in _entries(store, results, "layers")])


def load_phases(store: Store, results: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each phase of every finished trial that recorded its phases (phases.json).

    top1, old_top1 and new_top1: percent of the test images of all classes seen so far, of those of earlier phases
    (NaN in phase 0) and of the phase's own. A phase with malformed counts is left out; a later record of a phase
    replaces an earlier one.
    """
    import pandas as pd

    rows = {
        (trial["key"], entry["phase"]): trial | Phase.model_validate(entry).row()
        for trial, entry in _entries(store, results, "phases")
    }
    return pd.DataFrame(list(rows.values()), columns=PHASE_COLUMNS)


def load_diversity(store: Store, results: pd.DataFrame) -> Diversity:
    """Return what the finished trials recorded of their kept images (diversity.json). What is malformed is left out.

    Of the maps, the one of the first seed of each case and method that has any: no other is drawn.
    """
    ordered = results.sort_values(["seed", "key"], kind="stable")
    return diversity_frames(
        ((trial["key"], content) for trial, content in _contents(store, ordered, "diversity")),
        {
            trial["key"]: (trial["case"], trial["method"])
            for trial in ordered[TRIAL_COLUMNS].to_dict("records")
        },
    )


def result_row(record: Record) -> Row:
    """Return the row of results of one trial: what was asked for, and what its files say was measured."""
    row: Row = {name: getattr(record, name) for name in ("key", "status", "reason", "fingerprint")}
    row.update({name: record.settings.get(name) for name in SETTINGS})
    given = {kind: row.pop(name) or "" for name, kind in IN_THE_NAME.items()}
    if record.settings:
        for kind, key in given.items():
            row["method"] = row_name(row["method"], key, kind)
        row["setting"] = row["setting"] or f"{row['dataset']} {row['teacher']} -> {row['student']}"
    row["started"] = record.environment.get("started", "")
    diversity = summary_columns(read_json(record.folder / "diversity.json"))
    return row | _exported(record) | diversity | dict(record.result)


def _exported(record: Record) -> dict[str, Any]:
    """Return what was measured of an exported student; nothing where that is missing or malformed."""
    measured = (read_json(record.folder / "export.json") or {}).get("measured")
    task = record.settings.get("task", "")
    if not isinstance(measured, dict) or measured_fault(measured, task):
        return {}
    return numbers_of(measured)


def curve_points(record: Record, row: Row) -> list[Point]:
    """Return the evaluations of one trial, with what else its task measures; malformed events are left out."""
    events = Metrics(record.folder / "metrics.jsonl").rows() if record.settings else []
    trial = {name: row[name] for name in TRIAL_COLUMNS}
    measured = {measure.start for measure in measures_of(row["task"])}
    told = {measure.start for measure in measures_of(row["task"]) if measure.place == "front"}
    device = record.settings.get("device") or ""
    points = []
    for event in events:
        if is_evaluation(event) and (point := valid(Evaluation, event)):
            more = numbers_of({name: value for name, value in event.items() if name in measured})
            own = point.model_dump(include=set(CURVE_COLUMNS))
            if point.top1 is None and all(more.get(name) is None for name in told):
                continue
            points.append(more | trial | own | point.totals(device))
    return points


def is_evaluation(event: Any) -> bool:
    """Tell whether a row of metrics says that it is an evaluation, right or wrong."""
    return isinstance(event, dict) and event.get("kind") == "evaluation"


def _contents(
    store: Store, results: pd.DataFrame, name: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (trial, content) of the finished trials' NAME.json; empty content where there is none."""
    finished = results[results["status"] == "finished"]
    folders = {key_of(folder): folder for folder in store.trial_folders()}
    for trial in finished[TRIAL_COLUMNS].to_dict("records"):
        content = read_json(folders[trial["key"]] / f"{name}.json") if trial["key"] in folders else None
        yield {str(column): value for column, value in trial.items()}, content or {}


def _entries(
    store: Store, results: pd.DataFrame, name: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (trial, entry) for each sound entry of the list `name` in the finished trials' NAME.json."""
    for trial, content in _contents(store, results, name):
        entries = content.get(name)
        for entry in entries if isinstance(entries, list) else ():
            if valid(LISTS[name], entry) is not None:
                yield trial, entry


def _percent(shares: list[list[int]]) -> float:
    """Return the image-weighted accuracy of some tasks; NaN of none."""
    total = sum(total for _, total in shares)
    return 100 * sum(right for right, _ in shares) / total if total else math.nan
