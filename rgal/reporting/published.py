"""Published numbers with their source, read from benchmarks/reference/*.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rgal.core.errors import UserError

TEACHER = "teacher"


# (task, dataset, teacher, student, row, case); the case is "" for a task without cases, and for every teacher
Key = tuple[str, str, str, str, str, str]
Published = tuple[float, str]  # top-1 in percent, source


@dataclass(frozen=True)
class Reference:
    """Published top-1 (%), the rows of each (task, method) of ours, and a line on what a task's numbers are."""

    values: Mapping[Key, Published]
    rows: Mapping[tuple[str, str], tuple[str, ...]]
    about: Mapping[str, str] = field(default_factory=dict)

    def published(
        self, task: str, dataset: str, teacher: str, student: str, method: str, case: str = ""
    ) -> Published | None:
        """(top-1 in percent, source) of exactly this method, pair and case, or None.

        "teacher" is a method too; it is the same in every case.
        """
        if method == TEACHER:
            return self.values.get((task, dataset, teacher, student, TEACHER, ""))
        names = self.rows.get((task, method), ())
        found = (self.values.get((task, dataset, teacher, student, name, case)) for name in names)
        return next((value for value in found if value is not None), None)


def load_reference(path: str | Path) -> Reference:
    """Read one YAML file, or every *.yaml of a folder. Raises UserError, naming the file and the entry."""
    path = Path(path)
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    values: dict[Key, Published] = {}
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    about: dict[str, str] = {}
    for file in files:
        content = _mapping(_parse(file), str(file))
        task = str(_entry(content, "task", str(file)))
        for number, table in enumerate(_list(_entry(content, "tables", str(file)), f"{file}: tables")):
            where = f"{file}: table {number + 1}"
            for key, value in _cells(_mapping(table, where), where).items():
                values.setdefault((task, *key), value)  # the first table that prints a cell wins
        for method, names in _mapping(_entry(content, "methods", str(file)), f"{file}: methods").items():
            rows[task, str(method)] = (names,) if isinstance(names, str) else tuple(map(str, names))
        about[task] = _text(content, "about", str(file))
    return Reference(values, rows, about)


def _parse(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot read the reference results ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error


def _mapping(value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping, found {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list, found {type(value).__name__}")
    return value


def _entry(content: dict[Any, Any], key: str, where: str) -> Any:
    if key not in content:
        raise UserError(f"{where}: '{key}' is missing, found: {', '.join(map(str, content)) or 'nothing'}")
    return content[key]


def _text(content: dict[Any, Any], key: str, where: str) -> str:
    """An optional text on one line; "" without it."""
    value = content.get(key, "")
    if not isinstance(value, str) or (key in content and not value.strip()):
        raise UserError(f"{where}: {key}: expected text, found {value!r}")
    return " ".join(value.split())


def _cells(table: dict[Any, Any], where: str) -> dict[tuple[str, str, str, str, str], Published]:
    """The filled cells of one printed table by (dataset, teacher, student, row, case)."""
    source, dataset = str(_entry(table, "source", where)), str(_entry(table, "dataset", where))
    case, note = _text(table, "bits", where).lower(), _text(table, "note", where)
    pairs = [str(pair).split("/") for pair in _list(_entry(table, "pairs", where), f"{where}: pairs")]
    if any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{where}: 'pairs' holds something else than teacher/student")
    cells = {}
    for row, numbers in _mapping(_entry(table, "top1", where), f"{where}: top1").items():
        if not isinstance(numbers, list) or len(numbers) != len(pairs):
            raise UserError(f"{where}: row '{row}' needs {len(pairs)} numbers, one for each of 'pairs'")
        for (teacher, student), number in zip(pairs, numbers, strict=True):
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= 100:
                raise UserError(f"{where}: row '{row}': expected a percentage or null, found {number!r}")
            at = "" if row == TEACHER else case  # a teacher stays in float
            cells[dataset, teacher, student, str(row), at] = (
                float(number),
                f"{source} ({note})" if note else source,
            )
    return cells
