"""What of a store is left out of its tables and plots, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgal.suite.store.frames import LISTS, Evaluation, is_evaluation
from rgal.suite.store.records import ODD, Record, measured_fault, parse_json, valid


@dataclass(frozen=True)
class DamagedRecord:
    """A folder below trials/, what is odd about it ("broken", "newer", "foreign"), and the file and reason."""

    folder: Path
    kind: str
    reason: str


def damaged_records(records: Sequence[Record]) -> list[DamagedRecord]:
    """List odd folders, and files that cannot be used beside good records, in the order of the records."""
    damaged = []
    for record in records:
        if record.status in ODD:
            damaged.append(DamagedRecord(record.folder, record.status, record.reason))
        else:
            damaged += [DamagedRecord(record.folder, "broken", reason) for reason in _of_files(record)]
    return damaged


def _of_files(record: Record) -> Iterator[str]:
    folder = record.folder
    for path in sorted(folder.glob("*.json")):
        if path.name not in ("trial.json", "result.json"):
            content, reason = parse_json(path)
            if reason or (reason := _of_content(path.stem, content, record.settings["task"])):
                yield reason
    for reason in (_of_metrics(folder / "metrics.jsonl"), _of_samples(folder / "samples.png")):
        if reason:
            yield reason


def _of_content(name: str, content: Any, task: str) -> str:
    if not isinstance(content, dict):
        return f"{name}.json: not a mapping"
    if name == "export":
        measured = content.get("measured")
        wrong = (
            measured_fault(measured, task) if isinstance(measured, dict) else "measured: expected a mapping"
        )
        return f"export.json: {wrong}" if wrong else ""
    if name not in LISTS:
        return ""
    entries = content.get(name)
    if not isinstance(entries, list):
        return f"{name}.json: {name}: expected a list"
    bad = sum(valid(LISTS[name], entry) is None for entry in entries)
    return f"{name}.json: {bad} of {len(entries)} entries are malformed" if bad else ""


def _of_metrics(path: Path) -> str:
    """Count lines that are no JSON, and evaluations that no curve can show. A last line without its end is no problem:
    a run that goes on writes it, and one that was killed leaves it.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"metrics.jsonl: cannot be read ({error.strerror or type(error).__name__})"
    bad = sum(not _is_event(line) for line in lines)
    return f"metrics.jsonl: {bad} of {len(lines)} lines are malformed" if bad else ""


def _of_samples(path: Path) -> str:
    """Tell whether a picture begins and ends as a PNG; to decode them all would take longer than all tables."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"samples.png: cannot be read ({error.strerror or type(error).__name__})"
    whole = content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    return "" if whole else "samples.png: no PNG, or cut off"


def _is_event(line: bytes) -> bool:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if is_evaluation(event):
        return valid(Evaluation, event) is not None
    return isinstance(event, dict)
