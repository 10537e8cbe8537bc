"""What a trial's folder holds, read with distrust: any JSON of any types, half-written, foreign or of a newer version.

A trial.json or result.json that is not as we write it becomes a status and a reason. Nothing here raises.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1
ODD = ("broken", "newer", "foreign")  # statuses of folders that are no trial of this version

LONGEST = 200  # characters of a name
LARGEST = 2**53  # beyond it a float no longer holds every whole number
NEEDED_TEXT = ("task", "budget", "method")
TEXT = ("setting", "dataset", "teacher", "student", "case", "case_title", "init_pool_key")
WHOLE = ("order", "case_order")
SETTINGS = (*NEEDED_TEXT, *TEXT, "seed", *WHOLE)
PERCENTAGES = (
    *("last", "best", "teacher_top1", "aia", "aia_without_base"),
    *("old_top1", "new_top1", "base_top1", "task_mean", "onnx_top1"),
)
NUMBERS = (
    *("images", "synthesis_steps", "student_steps", "synthesis_seconds", "student_seconds"),
    *("forgetting", "initial_forgetting", "bwt", "memory_mb", "model_mb", "float_mb", "onnx_agreement"),
    "initial_images",
)
NEVER = (*SETTINGS, "key", "status", "schema", "reason", "started")  # a result says nothing on these


@dataclass(frozen=True)
class Record:
    """One folder below trials/, as read.

    status: "finished", "failed", "interrupted" (can be taken up again), or odd: "broken" (unreadable, half-written or
    malformed), "newer" (of a later schema), "foreign" (no trial of ours). reason: why it failed or is odd. settings:
    those of SETTINGS, checked; empty where they cannot be told. result: checked numbers and texts; else empty.
    """

    folder: Path
    key: str
    status: str
    reason: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)


def key_of(folder: Path) -> str:
    """The key at the end of a trial folder's name."""
    return folder.name.rpartition("-")[2]


def printable(text: str) -> str:
    """The text on one line: other white space becomes a space; control characters and halves of surrogate pairs,
    which no file can hold, become U+FFFD."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def parse_json(path: Path) -> tuple[Any, str]:
    """(content, "") or (None, why there is none)."""
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
    """The mapping in a JSON file, or None if it is missing, broken or something else."""
    value, _ = parse_json(path)
    return value if isinstance(value, dict) else None


def read_record(folder: Path) -> Record:
    """The record of one folder, judged."""
    key = printable(key_of(folder))
    about, reason = parse_json(folder / "trial.json")
    if reason:
        return Record(folder, key, "broken" if (folder / "trial.json").exists() else "foreign", reason)
    if not isinstance(about, dict):
        return Record(folder, key, "foreign", f"trial.json holds {_kind(about)}, not a trial")
    if odd := _schema_problem(about.get("schema", SCHEMA)):
        return Record(folder, key, odd[0], f"trial.json: {odd[1]}")
    if not isinstance(about.get("settings"), dict):
        status = "broken" if "schema" in about else "foreign"
        return Record(folder, key, status, f"trial.json: settings: {_found(about.get('settings'))}")
    if reason := _settings_problem(about["settings"]) or _key_problem(about, folder):
        return Record(folder, key, "broken", f"trial.json: {reason}")
    settings = {name: _clean(about["settings"].get(name)) for name in SETTINGS}
    status, reason, result = _outcome(folder)
    return Record(folder, key, status, reason, settings, _environment(about), result)


def numbers_of(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What a table can hold of what was measured: numbers, truth values and texts, but none of NEVER. A number that
    is infinite or too big is unknown."""
    return {
        printable(name): None if isinstance(value, int | float) and not _is_number(+value) else _clean(value)
        for name, value in measured.items()
        if name not in NEVER and (value is None or isinstance(value, str | bool | int | float))
    }


def measured_problem(measured: Mapping[str, Any]) -> str:
    """What is wrong with the numbers of a result or an export; "" if nothing is."""
    for name, value in measured.items():
        if name in PERCENTAGES and not _is_number(value, 0, 100):
            return f"{name}: {_found(value)}, expected a percentage"
        if name in NUMBERS and not _is_number(value):
            return f"{name}: {_found(value)}, expected a number"
        if name == "data_free" and not isinstance(value, bool):
            return f"{name}: {_found(value)}, expected true or false"
        if (name == "protocol" or name.endswith("_note")) and not isinstance(value, str | None):
            return f"{name}: {_found(value)}, expected text"
        if isinstance(value, int | float) and not _is_number(+value):
            return f"{printable(name)[:LONGEST]}: {_found(value)}"
    return ""


def is_whole(value: Any, least: int = -LARGEST) -> bool:
    """Whether this is a whole number that a float holds, and at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _outcome(folder: Path) -> tuple[str, str, dict[str, Any]]:
    """(status, reason, numbers) of a folder whose trial.json is ours."""
    result, reason = parse_json(folder / "result.json")
    if reason:
        return ("broken", reason, {}) if (folder / "result.json").exists() else ("interrupted", "", {})
    if not isinstance(result, dict):
        return "broken", f"result.json holds {_kind(result)}, not a result", {}
    if odd := _schema_problem(result.get("schema")):
        return odd[0], f"result.json: {odd[1]}", {}
    status, said = result.get("status"), result.get("reason")
    if status not in ("finished", "failed"):
        return (
            "broken",
            f"result.json: status: {_found(result.get('status'))}, expected finished or failed",
            {},
        )
    if reason := measured_problem(result):
        return "broken", f"result.json: {reason}", {}
    return status, printable(said) if isinstance(said, str) else "", numbers_of(result)


def _schema_problem(schema: Any) -> tuple[str, str] | None:
    """(status, reason) unless this is our schema."""
    if is_whole(schema) and schema > SCHEMA:
        return "newer", f"schema {schema}; this version reads schema {SCHEMA}"
    if not is_whole(schema) or schema != SCHEMA:
        return "broken", f"schema: {_found(schema)}, expected {SCHEMA}"
    return None


def _settings_problem(settings: Mapping[str, Any]) -> str:
    for name in (*NEEDED_TEXT, *TEXT):
        value = settings.get(name)
        if value is None and name not in NEEDED_TEXT:
            continue
        if not isinstance(value, str) or (not value.strip() and name in NEEDED_TEXT):
            return f"settings.{name}: {_found(settings.get(name))}, expected text"
        if len(value) > LONGEST:
            return f"settings.{name}: {len(value):,} characters, expected at most {LONGEST}"
    for name in ("seed", *WHOLE):
        if not is_whole(settings.get(name)) and (name == "seed" or settings.get(name) is not None):
            return f"settings.{name}: {_found(settings.get(name))}, expected a whole number"
    return ""


def _key_problem(about: Mapping[str, Any], folder: Path) -> str:
    """A copied or renamed folder would count twice, or for another trial."""
    key = about.get("key", key_of(folder))
    return "" if key == key_of(folder) else f"key: {_found(about.get('key'))}, not that of the folder"


def _environment(about: Mapping[str, Any]) -> dict[str, str]:
    """The machine as texts; what is neither text nor a number is left out."""
    found = about.get("environment")
    entries: Iterable[tuple[str, Any]] = found.items() if isinstance(found, dict) else ()
    return {
        name: printable(str(value))[:LONGEST]
        for name, value in entries
        if isinstance(value, str) or is_whole(value)
    }


def _is_number(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Whether this is a number in bounds, or unknown (null, NaN)."""
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return low <= value <= high or (isinstance(value, float) and math.isnan(value))


def _clean(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "a mapping", str: "a text", bool: "a truth value", type(None): "nothing"}
    return names.get(type(value), "a number")


def _found(value: Any) -> str:
    """`found x`, briefly: numbers and short texts as they are, anything else by its kind."""
    if isinstance(value, str) and len(value) <= 40:
        return f"found {printable(value)!r}"
    if isinstance(value, float) or is_whole(value):
        return f"found {value}"
    return f"found {'a huge number' if type(value) is int else _kind(value)}"
