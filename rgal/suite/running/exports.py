"""Students of finished trials as files that other runtimes read, each measured; one after the other, so that the times
mean something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rgal.core.errors import UserError, nearest
from rgal.methods.plugins import load_plugins
from rgal.suite.plan.trial import Trial
from rgal.suite.running.work import prepare
from rgal.suite.store.folders import SCHEMA, Store, key_of, read_json, write_json
from rgal.suite.task import tasks


def check_export(task: str, form: str) -> None:
    """UserError if the task cannot be exported to this format."""
    valid = tasks()[task].exports
    if not valid:
        raise UserError(f"--export {form}: task '{task}' has nothing to export")
    if form not in valid:
        raise UserError(f"--export {form}: {nearest(form, valid)}")


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


def export_trials(store: Store, folders: list[Path], form: str) -> str:
    """Export what is finished and not exported yet. Lines that say what came out.

    UserError at the first student that cannot be exported; those before it are kept.
    """
    lines = []
    for folder in folders:
        if store.status(folder) != "finished":
            continue
        exported = read_json(folder / "export.json") or {}
        if exported.get("schema") != SCHEMA or exported.get("form") != form:
            exported = {"schema": SCHEMA, "form": form, "measured": _export(store, folder, form)}
            write_json(folder / "export.json", exported)
        lines.append(_describe(folder, exported["measured"]))
    return "\n".join(lines)


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
    speed = measured["float_latency_ms_64"] / measured["latency_ms_64"]
    return (
        f"exported {folder.name}: top-1 {measured['onnx_top1']:.2f} %, "
        f"agreement {100 * measured['onnx_agreement']:.2f} %, "
        f"{measured['integer_layers']} of {measured['layers']} layers integer, "
        f"{measured['onnx_mb']:.3f} MB ({measured['onnx_mb'] / measured['onnx_float_mb']:.2f} of float), "
        f"{speed:.2f} times the float model's speed at batch 64"
    )
