"""Fingerprints of the code that makes a trial's numbers, and a teacher's.

A trial's key says what was asked for; its fingerprint says which code answered. It is a hash of every function, class
and constant that the trial uses, found by following names through the parsed sources: from what prepares a trial, its
task, the files of its method, RGAL where the method adds it, its networks and its data source from a plug-in, and the
training of its teacher where that is not given. So an edit of the triplet concerns the trials with RGAL, and no
others. Comments, layout, docstrings, annotations, the words of errors and moves between files do not count.

What cannot change a number is not followed (QUIET): messages, files and locks, the drawing of sample images, and what
only turns a user's text into settings, which the key holds. Nor is all that merely runs trials and reports on them
(the rest of `rgal.suite.running`, `rgal.reporting`): no trial uses it. The code of libraries is not followed either;
their versions stand in the record's environment.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import rgal
from rgal import data, nets
from rgal.core.code import CodeGraph, Definition
from rgal.core.errors import UserError
from rgal.methods.names import MethodName
from rgal.methods.plugins import registered
from rgal.methods.plus_rgal import plus_rgal
from rgal.methods.registry import methods
from rgal.suite.plan.trial import Trial
from rgal.suite.task import tasks

ROOT = Path(rgal.__file__).parent
QUIET = (
    "rgal.core.code",
    "rgal.core.cores",
    "rgal.core.errors",
    "rgal.core.files",
    "rgal.core.modules",
    "rgal.analysis.grids",
    "rgal.methods.names",
    "rgal.methods.parameters",
    "rgal.methods.plugins",
    "rgal.methods.registry",
    "rgal.suite.plan.settings",
    "rgal.suite.plan.yaml_file",
    "rgal.suite.store",
    "rgal.reporting",
)
OF_EVERY_TRIAL: tuple[Definition, ...] = (
    ("rgal.core.precision", "reproducible"),
    ("rgal.suite.plan.trial", "Trial.seed_parts"),
    ("rgal.suite.running.work", "prepare"),
)
OF_HELD_OUT: tuple[Definition, ...] = (("rgal.engine.held_out", "HeldOutRun"),)
OF_EVERY_TEACHER: tuple[Definition, ...] = (("rgal.suite.running.teachers", "TeacherRun"),)


class Fingerprints:
    """Reads the sources once for all trials of a suite."""

    def __init__(self) -> None:
        self._graph = CodeGraph(source_file)

    def of_trial(self, trial: Trial, own_teacher: bool = False) -> str:
        """Hash the code that makes a trial's numbers, its teacher's training included: 12 hex digits.

        own_teacher: whether the teacher's training depends on the method.
        """
        task = type(tasks()[trial.task])
        entries = [
            *OF_EVERY_TRIAL,
            *(OF_HELD_OUT if trial.held_out else ()),
            *self._training(trial, own_teacher),
            *_with_source([(task.__module__, task.__name__)]),
            *_methods(trial),
            *_networks(trial.teacher, trial.student),
            *_data(trial.dataset),
        ]
        return self._graph.fingerprint(entries)

    def of_teacher(self, trial: Trial, own_teacher: bool = False) -> str:
        """Hash the code that trains a trial's teacher: 12 hex digits, or "" for a teacher that is given.

        own_teacher: as for `of_trial`.
        """
        entries = self._training(trial, own_teacher)
        return self._graph.fingerprint(entries) if entries else ""

    def _training(self, trial: Trial, own_teacher: bool) -> list[Definition]:
        if trial.teacher_key.startswith("given-"):
            return []
        owner = next(kind for kind in type(tasks()[trial.task]).__mro__ if "pretraining" in vars(kind))
        return [
            *OF_EVERY_TEACHER,
            *_with_source([(owner.__module__, f"{owner.__name__}.pretraining")]),
            *_networks(trial.teacher),
            *_data(trial.dataset),
            *(_methods(trial) if own_teacher else []),
        ]


def _with_source(entries: Iterable[Definition]) -> list[Definition]:
    """Those in modules that have a source file: what is registered in a notebook has none."""
    return [(module, name) for module, name in entries if source_file(module)]


def mixed(former: str, now: str) -> str:
    """The fingerprint of numbers that two codes made together, such as a trial's that was taken up after an edit."""
    return former if former.rpartition("+")[2] == now else f"{former or 'unknown'}+{now}"


def source_file(module: str) -> Path | None:
    """The source file of a module whose code counts: one of rgal's own, or of a plug-in and what lies beside it."""
    top, *rest = module.split(".")
    if top != "rgal":
        return _file_of_plugin(module)
    if not rest or any(module == quiet or module.startswith(f"{quiet}.") for quiet in QUIET):
        return None
    path = ROOT.joinpath(*rest)
    files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in files if file.is_file()), None)


def _file_of_plugin(module: str) -> Path | None:
    """The file of a module in a plug-in's package, or in the folder of a plug-in that is a file."""
    file = _file(module)
    if file is None or file.suffix != ".py":
        return None
    plugins = {origin for _, origin in registered()}
    tops = {name.partition(".")[0] for name in plugins} - {"rgal"}
    top = module.partition(".")[0]
    return file if top in tops or (_folder(top) and _folder(top) in map(_folder, tops)) else None


def _file(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file else None


def _folder(top: str) -> Path | None:
    """Where a top-level module or package lies; None for what is installed."""
    file = _file(top)
    if file is None or "site-packages" in file.parts:
        return None
    return file.parent.parent if file.name == "__init__.py" else file.parent


def _methods(trial: Trial) -> list[Definition]:
    """The files of the method and of those that its parameters name, as abd[source=cmi] does, and RGAL's."""
    texts = [trial.method, *map(str, (trial.schedule.get("parameters") or {}).values())]
    names = [name for text in texts for name in _method_names(text)]
    used = [methods()[name.host] for name in names]
    modules = {module for method in used for module in (method.module, method.function.__module__)}
    if any(name.plugin is not None for name in names) or any(method.with_rgal for method in used):
        modules.add(plus_rgal.__module__)
    return _with_source((module, "") for module in sorted(modules))


def _method_names(text: str) -> list[MethodName]:
    """The method that a text names, if it does, and those in its parameters."""
    try:
        name = MethodName.parse(text)
    except UserError:
        return []
    values = [value for _, value in (*name.parameters, *(name.plugin or ()))]
    inner = [other for value in values for other in _method_names(value)]
    return [name, *inner] if name.host in methods() else []


def _networks(*names: str) -> list[Definition]:
    """The files of networks; none for those of libraries and of the user's own code, whose hash is in the key."""
    return _with_source((module, "") for name in names if (module := nets.module_of(name)))


def _data(dataset: str) -> list[Definition]:
    source = data.added().get(dataset)
    return _with_source([(source.module, "")] if source else [])
