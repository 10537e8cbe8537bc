"""What a trial's folder holds, read with distrust: any JSON of any types, half-written, foreign or of a newer version.

A trial.json or result.json that is not as we write it becomes a status and a reason. Nothing here raises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from rgal.core.errors import printable as printable
from rgal.suite.measures import COMMON
from rgal.suite.task import measures_of

SCHEMA = 1
ODD = ("broken", "newer", "foreign")  # statuses of folders that are no trial of this version

LONGEST = 200  # characters of a name
LARGEST = 2**53  # beyond it a float no longer holds every whole number
NEVER = ("key", "status", "schema", "reason", "started", "fingerprint")  # a result says nothing on these


def _clean(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _nan_is_unknown(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


WHOLE, SHORT_TEXT = "a whole number", f"text of at most {LONGEST} characters"  # what is expected, in words
_Short = Annotated[str, Field(strict=True, max_length=LONGEST)]
Name = Annotated[_Short, BeforeValidator(_clean), Field(pattern=r"\S", description=SHORT_TEXT)]
Text = Annotated[_Short | None, BeforeValidator(_clean), Field(description=SHORT_TEXT)]
Whole = Annotated[int, Field(strict=True, ge=-LARGEST, le=LARGEST, description=WHOLE)]
Place = Annotated[Whole | None, Field(description=WHOLE)]
Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Number = Annotated[float, Field(strict=True, ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Percentage = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
# What a result may hold under a name: what is expected there, in words, and the type that checks it.
KINDS: Mapping[str, tuple[str, TypeAdapter[Any]]] = {
    "percentage": (
        "a percentage",
        TypeAdapter(Annotated[Percentage | None, BeforeValidator(_nan_is_unknown)]),
    ),
    "number": ("a number", TypeAdapter(Annotated[Number | None, BeforeValidator(_nan_is_unknown)])),
    "truth": ("true or false", TypeAdapter(StrictBool)),
    "text": ("text", TypeAdapter(Annotated[StrictStr | None, BeforeValidator(_clean)])),
}


class Part(BaseModel):
    """A part of a record. Names that it does not declare are nobody's business."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Settings(Part):
    """What a trial was asked for, as far as tables and plots depend on it."""

    task: Name
    budget: Name
    method: Name
    setting: Text = None
    dataset: Text = None
    teacher: Text = None
    student: Text = None
    teacher_key: Text = None
    device: Text = None
    case: Text = None
    case_title: Text = None
    init_pool_key: Text = None
    calibration_key: Text = None
    evaluate_on: Text = None
    seed: Whole
    order: Place = None
    case_order: Place = None


SETTINGS = tuple(Settings.model_fields)


@dataclass(frozen=True)
class Record:
    """One folder below trials/, as read.

    status: "finished", "failed", "interrupted" (can be taken up again), or odd: "broken" (unreadable, half-written or
    malformed), "newer" (of a later schema), "foreign" (no trial of ours). reason: why it failed or is odd. settings:
    those of `Settings`; empty where they cannot be told. result: checked numbers and texts; else empty. fingerprint:
    of the code that made it; "" where it is not recorded.
    """

    folder: Path
    key: str
    status: str
    reason: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""


P = TypeVar("P", bound=BaseModel)


def key_of(folder: Path) -> str:
    """Return the key at the end of a trial folder's name."""
    return folder.name.rpartition("-")[2]


def parse_json(path: Path) -> tuple[Any, str]:
    """Return (content, "") or (None, why there is none)."""
    try:
        return json.loads(path.read_text(encoding="utf-8")), ""
    except FileNotFoundError:
        return None, f"no {path.name}"
    except OSError as error:
        return None, f"{path.name}: cannot be read ({error.strerror or type(error).__name__})"
    except ValueError:
        return None, f"{path.name}: not valid JSON, or cut off"
    except RecursionError:
        return None, f"{path.name}: nested too deep"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a JSON file, or None if it is missing, broken or something else."""
    value, _ = parse_json(path)
    return value if isinstance(value, dict) else None


def valid(model: type[P], content: Any) -> P | None:
    """Return the content as this model, or None."""
    try:
        return model.model_validate(content)
    except ValidationError:
        return None


def read_record(folder: Path) -> Record:
    """Read and judge the record of one folder."""
    key = printable(key_of(folder))
    trial, reason = parse_json(folder / "trial.json")
    if reason:
        return Record(folder, key, "broken" if (folder / "trial.json").exists() else "foreign", reason)
    if not isinstance(trial, dict):
        return Record(folder, key, "foreign", f"trial.json holds {_kind(trial)}, not a trial")
    if odd := _odd_schema(trial.get("schema", SCHEMA)):
        return Record(folder, key, odd[0], f"trial.json: {odd[1]}")
    if not isinstance(trial.get("settings"), dict):
        status = "broken" if "schema" in trial else "foreign"
        return Record(folder, key, status, f"trial.json: settings: {_given(trial.get('settings'))}")
    if reason := _settings_fault(trial["settings"]) or _key_fault(trial, folder):
        return Record(folder, key, "broken", f"trial.json: {reason}")
    settings = Settings.model_validate(trial["settings"]).model_dump()
    status, reason, result = _outcome(folder, settings["task"])
    fingerprint = trial.get("fingerprint")
    return Record(
        folder, key, status, reason, settings, _environment(trial.get("environment")), result,
        printable(fingerprint)[:LONGEST] if isinstance(fingerprint, str) else "",
    )  # fmt: skip


def measured_fault(measured: Mapping[str, Any], task: str) -> str:
    """Say what is wrong with the numbers of a result or an export of a task; "" if nothing is."""
    bounds = {measure.key: measure.bounds for measure in (*COMMON, *measures_of(task)) if measure.bounds}
    for name, value in measured.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = "text" if name == "protocol" or name.endswith("_note") else ""
        kind = bounds.get(name) or (
            "truth" if name == "data_free" else text or ("number" if is_number else "")
        )
        if kind and not _is_a(kind, value):
            return f"{printable(name)[:LONGEST]}: {_given(value)}, expected {KINDS[kind][0]}"
    return ""


def numbers_of(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table can hold of what was measured: numbers, truth values and texts, but nothing that the
    settings say. A number that is infinite or too big is unknown.
    """
    return {
        printable(name): None
        if isinstance(value, int | float) and not _is_a("number", +value)
        else _clean(value)
        for name, value in measured.items()
        if name not in (*SETTINGS, *NEVER) and (value is None or isinstance(value, str | bool | int | float))
    }


def _is_a(kind: str, value: Any) -> bool:
    try:
        KINDS[kind][1].validate_python(value)
    except ValidationError:
        return False
    return True


def _outcome(folder: Path, task: str) -> tuple[str, str, dict[str, Any]]:
    """Return (status, reason, numbers) of a folder whose trial.json is ours."""
    result, reason = parse_json(folder / "result.json")
    if reason:
        return ("broken", reason, {}) if (folder / "result.json").exists() else ("interrupted", "", {})
    if not isinstance(result, dict):
        return "broken", f"result.json holds {_kind(result)}, not a result", {}
    if odd := _odd_schema(result.get("schema")):
        return odd[0], f"result.json: {odd[1]}", {}
    status, said = result.get("status"), result.get("reason")
    if status not in ("finished", "failed"):
        return "broken", f"result.json: status: {_given(status)}, expected finished or failed", {}
    if reason := measured_fault(result, task):
        return "broken", f"result.json: {reason}", {}
    return status, printable(said) if isinstance(said, str) else "", numbers_of(result)


def _odd_schema(schema: Any) -> tuple[Literal["newer", "broken"], str] | None:
    """Return (status, reason) unless this is our schema."""
    is_whole = type(schema) is int and abs(schema) <= LARGEST
    if is_whole and schema > SCHEMA:
        return "newer", f"schema {schema}; this version reads schema {SCHEMA}"
    return (
        None if is_whole and schema == SCHEMA else ("broken", f"schema: {_given(schema)}, expected {SCHEMA}")
    )


def _settings_fault(settings: Mapping[str, Any]) -> str:
    try:
        Settings.model_validate(settings)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        expected = Settings.model_fields[name].description
        return f"settings.{name}: {_given(settings.get(name))}, expected {expected}"
    return ""


def _key_fault(trial: Mapping[str, Any], folder: Path) -> str:
    """Say whether the key is another than the folder's: a copied or renamed folder would count twice, or for another
    trial.
    """
    key = trial.get("key", key_of(folder))
    return "" if key == key_of(folder) else f"key: {_given(key)}, not that of the folder"


def _environment(environment: Any) -> dict[str, str]:
    """Return the machine as texts; what is neither text nor a whole number is left out."""
    if not isinstance(environment, dict):
        return {}
    texts = {
        name: printable(str(value))[:LONGEST]
        for name, value in environment.items()
        if isinstance(value, str) or (type(value) is int and abs(value) <= LARGEST)
    }
    return texts | ({"started": in_utc(texts["started"])} if "started" in texts else {})


def in_utc(time: str) -> str:
    """Return a time of any zone in UTC, so that times compare as texts do; a text that is no such time as it is.

    >>> in_utc("2026-03-29T01:30:00+0200"), in_utc("yesterday")
    ('2026-03-28T23:30:00Z', 'yesterday')
    """
    try:
        moment = datetime.strptime(time, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return time
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "a mapping", str: "a text", bool: "a truth value", type(None): "nothing"}
    return names.get(type(value), "a number")


def _given(value: Any) -> str:
    """Say `found x`, briefly: numbers and short texts as they are, anything else by its kind."""
    if isinstance(value, str) and len(value) <= 40:
        return f"found {printable(value)!r}"
    if isinstance(value, float) or (type(value) is int and abs(value) <= LARGEST):
        return f"found {value}"
    return f"found {'a huge number' if type(value) is int else _kind(value)}"
