"""Finding the modules of a package: where a file's presence is its registration, all of them are imported."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType


def modules_in(package: str) -> tuple[ModuleType, ...]:
    """Import and return the modules and packages that lie directly in a package, in alphabetical order.

    Its folders are read once in a process, unless the package gets another one.

    >>> [module.__name__ for module in modules_in("rgal.engine")][:2]
    ['rgal.engine.batches', 'rgal.engine.clock']
    """
    return _imported(package, tuple(importlib.import_module(package).__path__))


@functools.cache
def _imported(package: str, folders: tuple[str, ...]) -> tuple[ModuleType, ...]:
    return tuple(importlib.import_module(f"{package}.{info.name}") for info in pkgutil.iter_modules(folders))
