"""The store's files through any history: rows that were appended are there, what was cut off or torn is not."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rgal.suite.store.folders import Metrics, Store, read_json, write_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=3)


@given(before=ROWS, after=ROWS, later=ROWS, torn=st.integers(0, 40))
def test_a_cut_leaves_the_rows_up_to_the_checkpoint(
    before: list[dict[str, Any]], after: list[dict[str, Any]], later: list[dict[str, Any]], torn: int
) -> None:
    """Killed in the middle of a write, cut back to where the checkpoint stood, and gone on from there."""
    with TemporaryDirectory() as folder:
        metrics = Metrics(Path(folder) / "metrics.jsonl")
        metrics.append(before)
        size = metrics.size()
        metrics.append(after)
        assert metrics.rows() == before + after
        metrics.truncate(max(size, metrics.size() - torn))
        metrics.truncate(size)
        assert metrics.rows() == before
        metrics.append(later)
        assert metrics.rows() == before + later


@given(rows=ROWS, torn=st.integers(1, 60))
def test_a_torn_line_costs_itself_only(rows: list[dict[str, Any]], torn: int) -> None:
    with TemporaryDirectory() as folder:
        metrics = Metrics(Path(folder) / "metrics.jsonl")
        metrics.append(rows)
        metrics.append([{"the last": torn}])
        metrics.truncate(max(metrics.size() - torn, metrics.size() - len('{"the last": 1}')))
        assert metrics.rows()[: len(rows)] == rows and len(metrics.rows()) <= len(rows) + 1


@given(value=JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / "x.json", {"value": value})
        assert read_json(Path(folder) / "x.json") == {"value": value}


@given(name=st.text(max_size=20), key=st.text("0123456789abcdef", min_size=1, max_size=12))
def test_a_trial_of_any_name_has_a_folder_inside_the_store(name: str, key: str) -> None:
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        path = store.trial_folder(name, key)
        path.mkdir(parents=True)
        assert store.trial_folders() == [path] and path.name.endswith(f"-{key}")
        assert path.resolve().parent == (Path(folder) / "trials").resolve()
