"""What is grouped how: the results of one setting, its cases, methods and finished trials, and what they are called.

A case is a variant of one setting that a task runs every method at, such as a bit width. Most tasks have none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from rgal.reporting.stems import GROUP as GROUP
from rgal.reporting.stems import file_stems as file_stems
from rgal.suite.measures import PRIMARY, Measure
from rgal.suite.plan.trial import HELD_OUT
from rgal.suite.task import Task, measures_of, tasks

CPU_SECONDS = ("synthesis_cpu_seconds", "student_cpu_seconds")  # of all threads
CLOCK_SECONDS = ("synthesis_seconds", "student_seconds")
PROCESSOR_NOTE = (
    "Seconds are those of the processor, of all threads: what else the machine did is not in them."
)
DAGGER, DOUBLE_DAGGER = "†", "‡"
Row = tuple[str, str]  # (case, method): one row of a table; the case is "" for a task without cases


@dataclass(frozen=True, eq=False)
class MethodTrials:
    """All trials of one method in one case: what a row of a table, or a line of a figure, is made of."""

    case: str
    method: str
    trials: pd.DataFrame

    @property
    def row(self) -> Row:
        return self.case, self.method

    @cached_property
    def finished(self) -> pd.DataFrame:
        return finished(self.trials)

    @property
    def keys(self) -> list[str]:
        """The keys of the finished trials; none where they have no key."""
        return list(self.finished["key"]) if "key" in self.finished.columns else []

    @cached_property
    def data_free(self) -> bool:
        return not uses_real_data(self.trials)

    @cached_property
    def given(self) -> bool:
        """Whether they work on given images alone, of an origin that nobody checked."""
        return known(self.finished, "given")

    def numbers(self, column: str) -> pd.Series[float]:
        """Return a column of the finished trials as floats; NaN for what is no finite number."""
        if column not in self._numbers:
            self._numbers[column] = numbers(self.finished, column)
        return self._numbers[column]

    @cached_property
    def _numbers(self) -> dict[str, pd.Series[float]]:
        """Columns that were read: notes, statistics and cells read the same ones many times."""
        return {}

    @cached_property
    def mixed(self) -> str:
        """The fingerprints of the code that made the finished trials; see `mixed_fingerprints`."""
        return mixed_fingerprints(self.finished)

    def measured(self, measure: Measure) -> pd.Series[float]:
        """Return a measure of the finished trials, in its unit; NaN where it is unknown or a quotient has no value."""
        values = self.numbers(measure.key)
        if measure.less:
            values = values - self.numbers(measure.less)
        if measure.over:
            values = values / self.numbers(measure.over).where(lambda number: number > 0)
        return measure.scale * values if measure.scale != 1 else values

    def with_any(self, columns: Iterable[str]) -> MethodTrials | None:
        """Return the finished trials of which any of these columns is known; None where there is no such trial."""
        done = self.finished
        values = pd.DataFrame({column: numbers(done, column) for column in columns}, index=done.index)
        trials = self.finished[values.notna().any(axis=1)]
        return MethodTrials(self.case, self.method, trials) if len(trials) else None


def recorded(frame: pd.DataFrame, rows: Mapping[str, MethodTrials]) -> dict[str, pd.DataFrame]:
    """Map methods to the rows of another frame that are about their finished trials, in the order of these.

    Methods without any such row are left out.
    """
    if "key" not in frame.columns:
        return {}
    method_of = {key: name for name, row in rows.items() for key in row.keys}
    places = frame["key"].map({key: place for place, key in enumerate(method_of)})
    ordered = places.dropna().sort_values(kind="stable")
    mine = frame.loc[ordered.index]
    return {str(name): part for name, part in mine.groupby(mine["key"].map(method_of), sort=False)}


class ResultGroup:
    """The results that stand in one table or figure, grouped once.

    Args:
        results: one row a trial, as `rgal.suite.store.frames.make_frames` makes them.
        one_case: whether there may be one case only: a mean over bit widths says nothing.
        same: the columns in which all rows must agree.

    Raises:
        ValueError: rows differ in one of `same`, or in their case: they must not be averaged.
    """

    def __init__(self, results: pd.DataFrame, one_case: bool = False, same: Sequence[str] = GROUP) -> None:
        self.results = results.reset_index(drop=True)
        for name in same:
            if name in results.columns and results[name].nunique() > 1:
                raise ValueError(f"expected one {name}, found {sorted(map(str, results[name].unique()))}")
        names = sorted(case_names(results).unique())
        if one_case and len(names) > 1:
            raise ValueError(f"expected one case, found {names}")
        self.case = names[0] if one_case and names else ""

    @cached_property
    def rows(self) -> dict[Row, MethodTrials]:
        """(case, method) -> its trials: cases in their order, and inside each the order of `methods`."""
        return {
            (case, name): MethodTrials(case, name, trials)
            for case, part in cases(self.results).items()
            for name, trials in methods(part).items()
        }

    @cached_property
    def methods(self) -> dict[str, MethodTrials]:
        """Method -> its trials in all cases."""
        return {name: MethodTrials(self.case, name, part) for name, part in methods(self.results).items()}

    @cached_property
    def finished(self) -> pd.DataFrame:
        return finished(self.results)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """What the task measures, the primary number first: without test images, how alike student and teacher are."""
        measures = measures_of(only(self.results, "task"))
        if comparable_seconds(self.rows.values()) == CPU_SECONDS:
            measures = _in_processor_seconds(measures)
        if not self.untested:
            return tuple(measure for measure in measures if measure.on != "teacher")
        on_teacher = [measure for measure in measures if measure.on == "teacher"]
        return (*on_teacher, *(measure for measure in measures if not measure.on))

    @cached_property
    def untested(self) -> bool:
        """Whether there were no labelled test images: then no accuracy is known."""
        return only(self.results, "evaluate_on") == HELD_OUT

    def in_table(self, table: str) -> list[Measure]:
        """Return the measures that the task declares for this table."""
        return [measure for measure in self.measures if table in measure.tables]

    @property
    def heading(self) -> str:
        """Setting, budget and the one case as a reader wants them: "digits wrn16_2 → wrn10_1, budget small"."""
        return heading(self.results, self.case)

    def caption(self, more: str) -> str:
        return ", ".join(part for part in (self.heading, more) if part)

    @property
    def case_title(self) -> str:
        return case_title(self.results)

    @property
    def real_data(self) -> str:
        """The note on rows with a dagger: what references train on."""
        task: Task | type[Task] = tasks().get(only(self.results, "task"), Task)
        return f"{DAGGER} Trained on {task.real_data}."

    def label(self, method: str) -> str:
        """Return a method's name as figures print it."""
        return marked(method, self.methods[method].data_free)

    def mixed(self, row: MethodTrials) -> str:
        """Return `mixed_fingerprints` of a row's method, in all its cases."""
        return self.methods[row.method].mixed


def comparable_seconds(rows: Iterable[MethodTrials]) -> tuple[str, str]:
    """The columns of seconds by which finished trials can be compared.

    Those of the processor, where all of them ran on one and recorded them: seconds of the clock also measure what else
    ran on the machine.
    """
    for row in rows:
        on_cpu = row.finished.get("device", pd.Series("", index=row.finished.index)) == "cpu"
        if not (on_cpu & row.numbers(CPU_SECONDS[0]).notna() & row.numbers(CPU_SECONDS[1]).notna()).all():
            return CLOCK_SECONDS
    return CPU_SECONDS


def _in_processor_seconds(measures: Sequence[Measure]) -> tuple[Measure, ...]:
    """Give seconds of the processor the place of those of the clock, which stay in the CSV."""
    by_key = {measure.key: measure for measure in measures}
    changed: dict[str, Measure] = {}
    for clock, cpu in zip(CLOCK_SECONDS, CPU_SECONDS, strict=True):
        if clock in by_key and cpu in by_key:
            note = by_key[clock].note and PROCESSOR_NOTE
            changed[clock] = replace(by_key[clock], key=cpu, note=note)
            changed[cpu] = replace(by_key[cpu], key=clock)
    return tuple(changed.get(measure.key, measure) for measure in measures)


def groups(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Map file stems to the rows of one (task, setting, budget), in the order of the stems.

    Two groups whose slugs are equal ("a -> b" and "a b") both get a short hash: neither overwrites the other.
    """
    present = [name for name in GROUP if name in frame.columns]
    if frame.empty or not present:
        return {}
    parts = [tuple(str(value) for value in row) for row in frame[present].itertuples(index=False)]
    stems = file_stems(set(parts))
    return {stem: frame[[stems[key] == stem for key in parts]] for stem in sorted(stems.values())}


def case_names(frame: pd.DataFrame) -> pd.Series[str]:
    """Return the case of each row as text; "" where there is none."""
    if "case" not in frame.columns:
        return pd.Series("", index=frame.index, dtype=object)
    return frame["case"].map(lambda case: "" if pd.isna(case) else str(case)).astype(object)


def cases(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Map each case to its rows, in the order of the suite, then of the name. Without cases: "" -> all rows."""
    names = case_names(frame)
    order = numbers(frame, "case_order").groupby(names).min().fillna(math.inf)
    places = sorted((order[name], name) for name in names.unique())
    return {name: frame[names == name] for _, name in places}


def case_label(case: str) -> str:
    """Return a case as tables and plots print it: "W4A4" for "w4a4"."""
    return case.upper()


def case_title(frame: pd.DataFrame) -> str:
    """Return what the cases are, as a heading: "Bits"."""
    return only(frame, "case_title") or "Case"


def numbers(frame: pd.DataFrame, column: str) -> pd.Series[float]:
    """Return a column as floats; NaN where it is missing or not a finite number."""
    if column not in frame.columns:
        return pd.Series(math.nan, index=frame.index, dtype=float)
    values = pd.to_numeric(frame[column], errors="coerce").astype(float)
    return values.where(values.abs() < math.inf) if np.isinf(values.to_numpy()).any() else values


def known(frame: pd.DataFrame, column: str) -> bool:
    """Tell whether a column exists and holds anything else than NaN and ""."""
    return column in frame.columns and bool((frame[column].notna() & (frame[column] != "")).any())


def stacked(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Return these columns of all frames that have a row, below each other."""
    filled = [part for part in parts if len(part)]
    return (
        pd.concat(filled, ignore_index=True)[list(columns)] if filled else pd.DataFrame(columns=list(columns))
    )


def finished(results: pd.DataFrame) -> pd.DataFrame:
    """Return the finished trials whose primary number is known."""
    if results.empty or "status" not in results.columns:
        return results.iloc[:0]
    known_ones = np.any([numbers(results, measure.key).notna().to_numpy() for measure in PRIMARY], axis=0)
    return results[(results["status"] == "finished").to_numpy() & known_ones]


def uses_real_data(trials: pd.DataFrame) -> bool:
    """Tell whether these trials of one method train on real data. Unknown counts as data-free: every recipe is."""
    if "data_free" not in trials.columns:
        return False
    return bool((~trials["data_free"].dropna().astype(bool)).any())


def methods(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Map each method to its trials. References on real data first, then the order of the suite, then the name.

    The trials are sorted, so that a floating-point sum over them never depends on the order of the rows.
    """
    if results.empty or "method" not in results.columns:
        return {}
    keys = [name for name in ("seed", "key", "last") if name in results.columns]
    ordered = results.sort_values(keys, kind="stable") if keys else results
    first = numbers(ordered, "order").groupby(ordered["method"]).min().fillna(math.inf)
    trials_of = {str(name): trials for name, trials in ordered.groupby("method", sort=False)}
    places = sorted((not uses_real_data(trials), first[name], name) for name, trials in trials_of.items())
    return {name: trials_of[name] for *_, name in places}


def marked(method: str, data_free: bool) -> str:
    """Return a method's name as tables and plots print it: a dagger for those that train on real data."""
    return method if data_free else f"{method} {DAGGER}"


def mixed_fingerprints(trials: pd.DataFrame) -> str:
    """Return the fingerprints of the code that made these trials, if those of a setting differ, or a trial has two;
    else "".

    Fingerprints of different methods differ anyway. A trial without one was made by code of unknown age.
    """
    if "fingerprint" not in trials.columns:
        return ""
    settings = trials["setting"] if "setting" in trials.columns else pd.Series("", index=trials.index)
    prints = trials["fingerprint"].fillna("").replace("", "unknown").astype(str)
    parts = [sorted(set(part)) for _, part in prints.groupby(settings, sort=True)]
    return ", ".join(", ".join(part) for part in parts if len(part) > 1 or "+" in part[0])


def only(frame: pd.DataFrame, column: str) -> str:
    """Return the one value of a column as text; "" when it is missing, empty or not unique."""
    if column not in frame.columns:
        return ""
    values = frame[column].dropna().unique()
    return str(values[0]) if len(values) == 1 else ""


def heading(frame: pd.DataFrame, case: str = "") -> str:
    """Name setting, budget and case as a reader wants them: "digits wrn16_2 → wrn10_1, budget small"."""
    setting, budget = only(frame, "setting").replace("->", "→"), only(frame, "budget")
    parts = (setting, f"budget {budget}" if budget else "", case_label(case))
    return ", ".join(part for part in parts if part)
