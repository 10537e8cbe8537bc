"""Published numbers with their source, read from benchmarks/reference/*.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from rgal import benchmarks
from rgal.core.errors import UserError
from rgal.suite.plan.yaml_file import SAFE_LOADER

TEACHER = "teacher"
REFERENCE = Path(benchmarks.__file__).parent / "reference"


Published = tuple[float, str]  # top-1 in percent, source
PROTOCOL = r"\w+/\d+\+\d+x\d+"


class Entry(NamedTuple):
    """Where a published number belongs.

    Attributes:
        task, dataset: "kd", "cifar10".
        teacher, student: the networks; measure and protocol ("aia", "50+5x10") for tables of phases.
        method: a method of ours, or the row that prints it; "teacher" is one too.
        case: "w4a4"; "" for a task without cases, and for every teacher.
        network: what learnt, where measure and protocol stand in place of the networks; elsewhere "".
    """

    task: str
    dataset: str
    teacher: str
    student: str
    method: str
    case: str = ""
    network: str = ""


@dataclass(frozen=True)
class Reference:
    """Published top-1 (%), and what stands beside it.

    Attributes:
        values: the numbers, each with its source.
        rows: the rows of each (task, method) of ours.
        about: a line on what a task's numbers are.
        teachers: top-1 (%) of the teacher that the source of a number prints beside it, where it prints one.
        reproduced: what others than the authors got, or the authors with the code they released.
    """

    values: Mapping[Entry, Published]
    rows: Mapping[tuple[str, str], tuple[str, ...]]
    about: Mapping[str, str] = field(default_factory=dict)
    teachers: Mapping[Entry, float] = field(default_factory=dict)
    reproduced: Mapping[Entry, tuple[Published, ...]] = field(default_factory=dict)

    def published(self, *entry: str) -> Published | None:
        """Return (top-1 in percent, source) of exactly this `Entry`, or None."""
        return next((self.values[key] for key in self._rows_of(*entry) if key in self.values), None)

    def published_teacher(self, *entry: str) -> float | None:
        """Return top-1 (%) of the teacher behind what `published` returns for this `Entry`; None: not printed there."""
        key = next((key for key in self._rows_of(*entry) if key in self.values), None)
        return None if key is None else self.teachers.get(key)

    def reproductions(self, *entry: str) -> tuple[Published, ...]:
        """Return what others got with the method, for this `Entry`."""
        return tuple(value for key in self._rows_of(*entry) for value in self.reproduced.get(key, ()))

    def _rows_of(self, *entry: str) -> list[Entry]:
        """Return where the numbers of a method may stand, first its first row."""
        asked = Entry(*entry)
        if asked.method == TEACHER:
            return [asked._replace(case="")]
        return [asked._replace(method=row) for row in self.rows.get((asked.task, asked.method), ())]


NO_REFERENCE = Reference({}, {})  # where nothing was published
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
    "extra_forbidden": "is unknown",
}
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]


class PublishedTable(BaseModel):
    """One printed table: a number, or null, of each row for each pair of networks.

    network: what learnt, where `pairs` holds measure/protocol; "unknown" where the source does not say.
    std, hours: printed beside the numbers, for readers.
    """

    model_config = ConfigDict(extra="forbid")

    source: OneLine
    dataset: OneLine
    pairs: list[StrictStr]
    network: OneLine = ""
    bits: OneLine = ""
    note: OneLine = ""
    top1: dict[Row, list[Percent | None]]
    std: dict[Row, list[Annotated[float, Field(ge=0)] | None]] = {}
    hours: dict[Row, list[Annotated[float, Field(ge=0)] | None]] = {}

    @model_validator(mode="after")
    def _one_number_a_pair(self) -> PublishedTable:
        if any(pair.count("/") != 1 for pair in self.pairs):
            raise ValueError("'pairs' holds something else than teacher/student")
        for rows in (self.top1, self.std, self.hours):
            for row, numbers in rows.items():
                if len(numbers) != len(self.pairs):
                    raise ValueError(f"row '{row}' needs {len(self.pairs)} numbers, one for each of 'pairs'")
        protocols = [re.fullmatch(PROTOCOL, pair) is not None for pair in self.pairs]
        if any(protocols) and not self.network:
            raise ValueError("'network' is missing: what learnt under these protocols, or unknown")
        if self.network and not all(protocols):
            raise ValueError("'network' is for tables whose 'pairs' hold measure/protocol")
        return self

    def cells(self, task: str) -> Iterator[tuple[Entry, Published, float | None]]:
        """The filled cells, each with the teacher beside it. A teacher stays in float, whatever the case."""
        source = f"{self.source} ({self.note})" if self.note else self.source
        teachers = self.top1.get(TEACHER, [None] * len(self.pairs))
        for row, numbers in self.top1.items():
            case = "" if row == TEACHER else self.bits.lower()
            for pair, number, beside in zip(self.pairs, numbers, teachers, strict=True):
                teacher, student = pair.split("/")
                key = Entry(task, self.dataset, teacher, student, row, case, self.network)
                if number is not None:
                    yield key, (number, source), beside


class PublishedFile(BaseModel):
    """A file of benchmarks/reference. methods: ours -> the rows that print it, the first that has a number wins."""

    model_config = ConfigDict(extra="forbid")

    task: OneLine
    about: OneLine = ""
    tables: list[PublishedTable]
    methods: dict[Row, tuple[Row, ...]]
    reproduced: list[PublishedTable] = []

    @field_validator("methods", mode="before")
    @classmethod
    def _one_or_several(cls, methods: Any) -> Any:
        if not isinstance(methods, dict):
            return methods
        return {name: [rows] if isinstance(rows, str) else rows for name, rows in methods.items()}


def load_reference(path: str | Path) -> Reference:
    """Read one YAML file, or every *.yaml of a folder. Raises UserError, naming the file and the entry."""
    path = Path(path)
    values: dict[Entry, Published] = {}
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    about: dict[str, str] = {}
    teachers: dict[Entry, float] = {}
    reproduced: dict[Entry, tuple[Published, ...]] = {}
    for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
        content = _read(file)
        for key, value, teacher in (cell for table in content.tables for cell in table.cells(content.task)):
            if key in values:
                continue  # the first table that prints a cell wins
            values[key] = value
            if teacher is not None:
                teachers[key] = teacher
        for key, value, _ in (cell for table in content.reproduced for cell in table.cells(content.task)):
            reproduced[key] = (*reproduced.get(key, ()), value)
        rows |= {(content.task, method): names for method, names in content.methods.items()}
        about[content.task] = content.about
    return Reference(values, rows, about, teachers, reproduced)


def _read(file: Path) -> PublishedFile:
    try:
        text = file.read_text(encoding="utf-8")
        return PublishedFile.model_validate(yaml.load(text, Loader=SAFE_LOADER))  # noqa: S506 (a SafeLoader)
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
