"""What tables and plots ask of the frames of results: groups, cases, finished trials, methods, headings.

A case is a variant of one setting that a task runs every method at, such as a bit width. Most tasks have none.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection

import pandas as pd

from rgal.core.files import slug

GROUP = ("task", "setting", "budget")
DAGGER = "†"
Row = tuple[str, str]  # (case, method): one row of a table; the case is "" for a task without cases


def groups(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """File stem -> the rows of one (task, setting, budget), in the order of the stems.

    Two groups whose slugs are equal ("a -> b" and "a b") both get a short hash: neither overwrites the other.
    """
    present = [name for name in GROUP if name in frame.columns]
    if frame.empty or not present:
        return {}
    parts = [tuple(str(value) for value in row) for row in frame[present].itertuples(index=False)]
    stems = file_stems(set(parts))
    return {stem: frame[[stems[key] == stem for key in parts]] for stem in sorted(stems.values())}


def file_stems(keys: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """A file stem for each key; keys with equal slugs get a short hash behind theirs."""
    stems = {key: "_".join(slug(part) for part in key if part) or "unnamed" for key in keys}
    taken = list(stems.values())
    for key, stem in stems.items():
        if taken.count(stem) > 1:
            stems[key] = f"{stem}_{hashlib.sha256(repr(key).encode()).hexdigest()[:6]}"
    return stems


def require_one_group(frame: pd.DataFrame) -> None:
    """Raise ValueError for rows of several tasks, settings or budgets: they must not be averaged."""
    for name in GROUP:
        if name in frame.columns and frame[name].nunique() > 1:
            raise ValueError(f"expected one {name}, found {sorted(map(str, frame[name].unique()))}")


def require_one_case(frame: pd.DataFrame) -> None:
    """Raise ValueError for rows of several cases: a mean over bit widths says nothing."""
    found = case_names(frame).unique()
    if len(found) > 1:
        raise ValueError(f"expected one case, found {sorted(found)}")


def case_names(frame: pd.DataFrame) -> pd.Series[str]:
    """The case of each row as text; "" where there is none."""
    if "case" not in frame.columns:
        return pd.Series("", index=frame.index, dtype=object)
    return frame["case"].map(lambda case: "" if pd.isna(case) else str(case)).astype(object)


def cases(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Case -> its rows, in the order of the suite, then of the name. Without cases: "" -> all rows."""
    names = case_names(frame)
    order = numbers(frame, "case_order").groupby(names).min().fillna(math.inf)
    places = sorted((order[name], name) for name in names.unique())
    return {name: frame[names == name] for _, name in places}


def case_label(case: str) -> str:
    """A case as tables and plots print it: "W4A4" for "w4a4"."""
    return case.upper()


def case_title(frame: pd.DataFrame) -> str:
    """What the cases are, as a heading: "Bits"."""
    return only(frame, "case_title") or "Case"


def numbers(frame: pd.DataFrame, column: str) -> pd.Series[float]:
    """A column as floats; NaN where it is missing or not a finite number."""
    if column not in frame.columns:
        return pd.Series(math.nan, index=frame.index, dtype=float)
    values = pd.to_numeric(frame[column], errors="coerce").astype(float)
    return values.where(values.abs() < math.inf)


def known(frame: pd.DataFrame, column: str) -> bool:
    """Whether a column exists and holds anything else than NaN and ""."""
    return column in frame.columns and bool((frame[column].notna() & (frame[column] != "")).any())


def finished(results: pd.DataFrame) -> pd.DataFrame:
    """The finished trials, with a `last` that is a number."""
    if results.empty or not {"status", "last"} <= set(results.columns):
        return results.iloc[:0]
    return results[(results["status"] == "finished") & numbers(results, "last").notna()]


def uses_real_data(trials: pd.DataFrame) -> bool:
    """Whether these trials of one method train on real data. Unknown counts as data-free: every recipe is."""
    if "data_free" not in trials.columns:
        return False
    return bool((~trials["data_free"].dropna().astype(bool)).any())


def methods(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Method -> its trials. References on real data first, then the order of the suite, then the name.

    The trials are sorted, so that a floating-point sum over them never depends on the order of the rows.
    """
    if results.empty or "method" not in results.columns:
        return {}
    keys = [name for name in ("seed", "key", "last") if name in results.columns]
    ordered = results.sort_values(keys, kind="stable") if keys else results
    first = numbers(ordered, "order").groupby(ordered["method"]).min().fillna(math.inf)
    found = {str(name): trials for name, trials in ordered.groupby("method", sort=False)}
    places = sorted((not uses_real_data(trials), first[name], name) for name, trials in found.items())
    return {name: found[name] for *_, name in places}


def method_rows(results: pd.DataFrame) -> dict[Row, pd.DataFrame]:
    """(case, method) -> its trials: cases in their order, and inside each the order of `methods`."""
    return {
        (case, name): trials
        for case, part in cases(results).items()
        for name, trials in methods(part).items()
    }


def marked(method: str, data_free: bool) -> str:
    """A method's name as tables and plots print it: a dagger for those that train on real data."""
    return method if data_free else f"{method} {DAGGER}"


def only(frame: pd.DataFrame, column: str) -> str:
    """The one value of a column as text; "" when it is missing, empty or not unique."""
    if column not in frame.columns:
        return ""
    values = frame[column].dropna().unique()
    return str(values[0]) if len(values) == 1 else ""


def heading(frame: pd.DataFrame, case: str = "") -> str:
    """Setting, budget and case as a reader wants them: "digits wrn16_2 → wrn10_1, budget small"."""
    setting, budget = only(frame, "setting").replace("->", "→"), only(frame, "budget")
    parts = (setting, f"budget {budget}" if budget else "", case_label(case))
    return ", ".join(part for part in parts if part)
