"""Loads methods, data sets, networks and tasks of others, from files that the user names and from installed packages.

A plug-in is a Python module whose import registers something by `@rgal.methods.registry.method`,
`@rgal.data.data_source`, `@rgal.nets.net` or `@rgal.suite.task.task`. An installed package announces such a module as
an entry point of the group "rgal.methods". Loading a plug-in runs its code, so that a file is loaded only if the user
names it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from rgal import data, nets
from rgal.core.errors import UserError, first_line
from rgal.methods import registry

GROUP = "rgal.methods"
_PREFIX = "rgal_plugin_"


class Entry(Protocol):
    """What is registered, with the module that did so."""

    @property
    def module(self) -> str: ...


Registry = Callable[[], Mapping[str, Entry]]
_REGISTRIES: list[Registry] = [registry.methods, data.added, nets.added]


def load_plugins(files: Iterable[str] = (), quiet: bool = False) -> tuple[str, ...]:
    """Load the plug-ins of installed packages and those in files.

    Args:
        files: paths of Python files.
        quiet: whether to say nothing of installed plug-ins that cannot be loaded. Otherwise each gets a line on stderr.

    Returns:
        The files' absolute paths.

    Raises:
        UserError: a file cannot be loaded or registers nothing.
    """
    registry.methods()  # ours come first: a plug-in that takes one of their names is the one at fault
    problems = _load_installed()
    if not quiet:
        for problem in problems:
            print(f"warning: {problem}", file=sys.stderr)
    return tuple(_load_file(Path(file).expanduser()) for file in files)


def from_files() -> list[str]:
    """Return the names of the methods that files have registered so far."""
    return [name for name, method in registry.methods().items() if method.module.startswith(_PREFIX)]


def add_registry(entries: Registry) -> None:
    """Let plug-ins register something of another kind: what the function returns, by name."""
    _REGISTRIES.append(entries)


def registered() -> set[tuple[str, str]]:
    """Return (name, module) of all that is registered, of every kind."""
    return {(name, entry.module) for entries in _REGISTRIES for name, entry in entries().items()}


@functools.cache
def _load_installed() -> tuple[str, ...]:
    """Import every entry point of the group, and return a line for each that cannot be imported.

    A broken package must not keep the methods of all others from running. What was imported stays so: this runs once in
    a process.
    """
    problems = []
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            package = point.dist.name if point.dist else "an unknown package"
            problems.append(f"plug-in '{point.name}' of {package} is left out: {_reason(error, None)}")
    return tuple(problems)


def _load_file(path: Path) -> str:
    """Run a file as a module of its own, unless its present content has been run already; return its absolute path."""
    if path.suffix != ".py" or not path.is_file():
        problem = "is no .py file" if path.exists() else "no such file"
        raise UserError(f"--plugin {path}: {problem}; expected a Python file that registers something")
    path = path.resolve()
    content = path.read_bytes()
    name = _PREFIX + path.stem + "_" + hashlib.sha256(str(path).encode()).hexdigest()[:8]
    digest = hashlib.sha256(content).hexdigest()
    if getattr(sys.modules.get(name), "__digest__", None) == digest:
        return str(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__digest__ = digest  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a plug-in may not end the process that it is a part of
        del sys.modules[name]
        raise UserError(f"--plugin {path}: {_reason(error, path)}") from error
    if not any(origin == name for _, origin in registered()):
        raise UserError(
            f"--plugin {path}: registers nothing; expected a function under @method, @data_source or @net, "
            "or a class under @task"
        )
    return str(path)


def _reason(error: BaseException, path: Path | None) -> str:
    """Put an error in one line, with the number of the line in the file at `path` that it comes from."""
    text = first_line(error)
    if isinstance(error, UserError | ValueError) and "exists already" in text:
        return text
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f" in line {line}" if line else ""
    return f"{type(error).__name__}{where}: {error.msg if isinstance(error, SyntaxError) else text}"
