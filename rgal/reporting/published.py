"""Published numbers with their source, read from benchmarks/reference/*.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

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


Row = Annotated[str, BeforeValidator(str)]
OneLine = Annotated[StrictStr, Field(pattern=r"\S"), AfterValidator(lambda text: " ".join(text.split()))]
EXPECTED = {
    "missing": "is missing",
    "model_type": "expected a mapping",
    "dict_type": "expected a mapping",
    "list_type": "expected a list",
    "string_type": "expected text",
    "string_pattern_mismatch": "expected text",
    "float_type": "expected a percentage or null",
}
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]


class PublishedTable(BaseModel):
    """One printed table: a number, or null, of each row for each pair of networks."""

    source: OneLine
    dataset: OneLine
    pairs: list[StrictStr]
    bits: OneLine = ""
    note: OneLine = ""
    top1: dict[Row, list[Percent | None]]

    @model_validator(mode="after")
    def _one_number_a_pair(self) -> PublishedTable:
        if any(pair.count("/") != 1 for pair in self.pairs):
            raise ValueError("'pairs' holds something else than teacher/student")
        for row, numbers in self.top1.items():
            if len(numbers) != len(self.pairs):
                raise ValueError(f"row '{row}' needs {len(self.pairs)} numbers, one for each of 'pairs'")
        return self

    def cells(self) -> dict[tuple[str, str, str, str, str], Published]:
        """The filled cells by (dataset, teacher, student, row, case). A teacher stays in float, whatever the case."""
        source = f"{self.source} ({self.note})" if self.note else self.source
        pairs = [(teacher, student) for teacher, student in (pair.split("/") for pair in self.pairs)]
        return {
            (self.dataset, *pair, row, "" if row == TEACHER else self.bits.lower()): (number, source)
            for row, numbers in self.top1.items()
            for pair, number in zip(pairs, numbers, strict=True)
            if number is not None
        }


class PublishedFile(BaseModel):
    """A file of benchmarks/reference. methods: ours -> the rows that print it, the first that has a number wins."""

    task: OneLine
    about: OneLine = ""
    tables: list[PublishedTable]
    methods: dict[Row, tuple[Row, ...]]

    @field_validator("methods", mode="before")
    @classmethod
    def _one_or_several(cls, methods: Any) -> Any:
        if not isinstance(methods, dict):
            return methods
        return {name: [rows] if isinstance(rows, str) else rows for name, rows in methods.items()}


def load_reference(path: str | Path) -> Reference:
    """Read one YAML file, or every *.yaml of a folder. Raises UserError, naming the file and the entry."""
    path = Path(path)
    values: dict[Key, Published] = {}
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    about: dict[str, str] = {}
    for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
        content = _read(file)
        for table in content.tables:
            for key, value in table.cells().items():
                values.setdefault((content.task, *key), value)  # the first table that prints a cell wins
        rows |= {(content.task, method): names for method, names in content.methods.items()}
        about[content.task] = content.about
    return Reference(values, rows, about)


def _read(file: Path) -> PublishedFile:
    try:
        return PublishedFile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{file}: cannot read the reference results ({error.strerror})") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in problem["loc"] if part != "[key]")
        value, message = problem["input"], problem["msg"].removeprefix("Value error, ")
        given = repr(value) if isinstance(value, str | int | float) else type(value).__name__
        said = "" if problem["type"] in ("missing", "value_error") else f", found {given}"
        raise UserError(f"{file}: {where}{EXPECTED.get(problem['type'], message)}{said}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
