"""Students of finished trials as files that other runtimes read, each measured; one after the other, so that the times
mean something."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from rgal.core.errors import UserError, in_short, nearest
from rgal.methods.plugins import load_plugins
from rgal.suite.plan.trial import Trial
from rgal.suite.running.work import prepare
from rgal.suite.store.claims import Claims
from rgal.suite.store.folders import SCHEMA, Store, key_of, read_json, trial_claim, write_json
from rgal.suite.task import tasks

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime")}  # what a format needs


@dataclass(frozen=True)
class Exported:
    """What came of exports: a line for each student that was exported, and one for each that could not be."""

    lines: list[str]
    failures: list[str]


def check_export(task: str, form: str) -> None:
    """UserError if the task cannot be exported to this format, or a package that it takes is not installed."""
    valid = tasks()[task].exports
    if not valid:
        raise UserError(f"--export {form}: task '{task}' has nothing to export")
    if form not in valid:
        raise UserError(f"--export {form}: {nearest(form, valid)}")
    if missing := [name for name in PACKAGES.get(form, ()) if find_spec(name) is None]:
        raise UserError(
            f"--export {form}: not installed: {', '.join(missing)}; pip install {' '.join(missing)}, or "
            f"pip install -e .[{form}] in the source folder"
        )


def find_trial(store: Store, name: str) -> Path:
    """The folder of a trial given as its key, its folder's name or a path to it. UserError unless there is one."""
    wanted = Path(name).name
    folders = store.trial_folders()
    named = [f for f in folders if wanted in (f.name, key_of(f))]
    if len(named) != 1:
        keys = [key_of(f) for f in folders]
        raise UserError(f"--export-only {name}: no such trial in {store.root}; {nearest(wanted, keys)}")
    if store.status(named[0]) != "finished":
        raise UserError(f"--export-only {name}: this trial is {store.status(named[0])}, not finished")
    return named[0]


def export_trials(store: Store, folders: list[Path], form: str) -> Exported:
    """Export what is finished and not exported yet. A student that cannot be exported does not keep others from it."""
    lines, failures = [], []
    for folder in folders:
        if store.status(folder) != "finished":
            continue
        with Claims(store.root).held(trial_claim(folder), f"export of {folder.name}"):
            try:
                lines.append(_describe(folder, _exported(store, folder, form)))
            except Exception as error:  # a network is somebody else's code, and so is what translates it
                reason = str(error) if isinstance(error, UserError) else in_short(error)
                failures.append(f"not exported: {folder.name}: {reason}")
    return Exported(lines, failures)


def _exported(store: Store, folder: Path, form: str) -> dict[str, Any]:
    """Return what was measured of an exported student; export it if it is not."""
    exported = read_json(folder / "export.json") or {}
    if exported.get("schema") != SCHEMA or exported.get("form") != form:
        exported = {"schema": SCHEMA, "form": form, "measured": _export(store, folder, form)}
        write_json(folder / "export.json", exported)
    measured: dict[str, Any] = exported["measured"]
    return measured


def _export(store: Store, folder: Path, form: str) -> dict[str, Any]:
    asked = read_json(folder / "trial.json") or {}
    try:
        trial = Trial(**asked["settings"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / 'trial.json'}: not the record of a trial of this version") from error
    load_plugins(trial.plugins)
    check_export(trial.task, form)
    return tasks()[trial.task].export(prepare(store.root, trial, torch.device("cpu")), folder, form)


def _describe(folder: Path, measured: dict[str, Any]) -> str:
    """Say what was measured of an exported model, as far as it was."""
    parts = [f"top-1 {measured['onnx_top1']:.2f} %"] if "onnx_top1" in measured else []
    parts.append(f"agreement with what it was made from {100 * measured['onnx_agreement']:.2f} %")
    if "layers" in measured:
        parts.append(f"{measured['integer_layers']} of {measured['layers']} layers integer")
    size = f"{measured['onnx_mb']:.3f} MB"
    if "onnx_float_mb" in measured:
        size += f" ({measured['onnx_mb'] / measured['onnx_float_mb']:.2f} of float)"
        speed = measured["float_latency_ms_64"] / measured["latency_ms_64"]
        parts += [size, f"{speed:.2f} times the float model's speed at batch 64"]
    else:
        parts += [size, f"{measured['latency_ms_64']:.3g} ms a batch of 64"]
    if note := measured.get("onnx_note"):
        parts.append(note)
    return f"exported {folder.name}: {', '.join(parts)}"
