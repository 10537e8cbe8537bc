"""What code does, apart from how it is written down: hashes that leave out comments, layout, docstrings, annotations
and the words of errors, none of which can change a number."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# A module and a name in it. "Class.method" is one function of a class, "" everything in the module, and EFFECTS its
# statements that bind no name but run when it is imported.
Definition = tuple[str, str]
EFFECTS = "*"
QUIET_FIELDS = ("annotation", "returns", "kind", "type_comment")  # of nodes: what never runs


def code_hash(*modules: str) -> str:
    """Hash the code of imported modules: 12 hex digits, or "" if none of them has source code.

    >>> code_hash("rgal.core.code") == code_hash("rgal.core.code", "rgal.core.code")
    True
    >>> code_hash("no_such_module")
    ''
    """
    texts = []
    for name in dict.fromkeys(modules):
        try:
            texts.append(_canonical_text(inspect.getsource(sys.modules[name])))
        except (KeyError, OSError, TypeError, SyntaxError):
            continue
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12] if texts else ""


@functools.cache  # a plan asks for the code of each of its trials' methods
def _canonical_text(source: str) -> str:
    return _canonical(ast.parse(source))


class CodeGraph:
    """The definitions in some modules, and which of them each one uses by name.

    A use through a name that exists only at run time (a registry, getattr) is not seen: the caller has to list what
    is used that way. A local name that equals a definition's counts as a use of it, so that rather too much is reached
    than too little.

    Args:
        file_of: the source file of a module by name; None for names that are no module, or one whose code does not
            count.
    """

    def __init__(self, file_of: Callable[[str], Path | None]) -> None:
        self._file_of = functools.cache(file_of)
        self._source = functools.cache(self._read)
        self._uses = functools.cache(self._direct_uses)
        self._fingerprints: dict[frozenset[Definition], str] = {}

    def fingerprint(self, entries: Iterable[Definition]) -> str:
        """Hash all code that these definitions use, directly or not: 12 hex digits.

        Where it stands does not count: a function that moves to another module as it is changes nothing.

        Raises:
            KeyError: an entry's module is none whose code counts, or has no such definition.
        """
        asked = frozenset(entries)
        if asked not in self._fingerprints:
            digests = {self._source(module).digest(name) for module, name in self.reach(asked)}
            self._fingerprints[asked] = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:12]
        return self._fingerprints[asked]

    def reach(self, entries: Iterable[Definition]) -> set[Definition]:
        """List these definitions and all that they use, directly or not. Raises: as `fingerprint`."""
        reached: set[Definition] = set()
        waiting = list(entries)
        while waiting:
            entry = waiting.pop()
            if entry in reached:
                continue
            reached.add(entry)
            waiting += self._uses(entry)
        return reached

    def _direct_uses(self, entry: Definition) -> frozenset[Definition]:
        """The definitions that one uses by name, and what runs when its module is imported."""
        module, name = entry
        source = self._source(module)
        inside = source.definitions if not name else ()
        named = (used for dotted in source.names_in(name) for used in self._resolve(source, dotted))
        return frozenset([(module, EFFECTS), *((module, definition) for definition in inside), *named])

    def _read(self, module: str) -> _Source:
        path = self._file_of(module)
        if path is None:
            raise KeyError(f"{module}: no module whose code counts")
        return _parse(module, path, path.stat().st_mtime_ns)

    def _resolve(self, source: _Source, dotted: str) -> list[Definition]:
        """What a name such as `nets.build` stands for in a module; nothing if it is local, built in or not followed."""
        root, *rest = dotted.split(".")
        if root in source.definitions:
            return [(source.module, root)]
        if root in source.imports:
            module, *names = source.imports[root]
            return self._member(module, [*names, *rest])
        return []

    def _member(self, module: str, names: list[str]) -> list[Definition]:
        """What `module.name.name` stands for."""
        source = self._source(module) if self._file_of(module) else None
        if source and not names:
            return [(module, "")]  # a module that is handed on: any of it may be meant
        if not names:
            return []
        first, *rest = names
        if source and first in source.definitions:
            return [(module, first)]
        if self._file_of(f"{module}.{first}"):
            return self._member(f"{module}.{first}", rest)
        if source and first in source.imports:
            origin, *imported = source.imports[first]
            return self._member(origin, [*imported, *rest])
        return [(module, "")] if source else []


class _Source:
    """A parsed module.

    Attributes:
        definitions: name -> the top-level statements that bind it.
        effects: the other statements that run on import.
        imports: local name -> (module,) or (module, name in it), wherever in the module it is imported.
    """

    def __init__(self, module: str, package: str, tree: ast.Module) -> None:
        self.module = module
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.effects: list[ast.stmt] = []
        self.imports = {name: origin for node in _running(tree) for name, origin in _imported(node, package)}
        for statement in tree.body:
            if (
                isinstance(statement, ast.Import | ast.ImportFrom)
                or _is_text(statement)
                or _for_types(statement)
            ):
                continue
            names = _bound(statement)
            for name in names:
                self.definitions.setdefault(name, []).append(statement)
            if not names:
                self.effects.append(statement)
        self.digest = functools.cache(self._digest)
        self.names_in = functools.cache(self._names_in)

    def _statements(self, name: str) -> list[ast.stmt]:
        if name in ("", EFFECTS):
            return self.effects if name else []
        outer, _, method = name.partition(".")
        statements = self.definitions[outer]
        if not method:
            return statements
        bodies = [part for statement in statements for part in getattr(statement, "body", [])]
        functions = [part for part in bodies if method in _bound(part)]
        if not functions:
            raise KeyError(f"{self.module}: no {name}")
        return functions

    def _digest(self, name: str) -> str:
        text = "".join(map(_canonical, self._statements(name)))
        return hashlib.sha256(text.encode()).hexdigest()

    def _names_in(self, name: str) -> frozenset[str]:
        return frozenset(dotted for statement in self._statements(name) for dotted in _names(statement))


@functools.cache
def _parse(module: str, path: Path, changed: int) -> _Source:
    """Parse a file once. changed: when it was, so that an edited one is parsed again."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _Source(module, package, ast.parse(path.read_bytes()))


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The node and those inside it, without what only type checkers read."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not _for_types(child):
            yield from _running(child)


def _for_types(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and _dotted(node.test).rpartition(".")[2] == "TYPE_CHECKING"


def _is_text(node: Any) -> bool:
    """Whether this is a statement that is only a string: a docstring, also one of an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imported(node: ast.AST, package: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(local name, where it comes from) of what an import statement binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, (alias.name,)) if alias.asname else (top, (top,))
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, (module, alias.name)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement binds where it stands."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    inner = [part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.stmt)]
    return names.union(*(_bound(part) for part in inner))


def _dotted(node: ast.AST) -> str:
    """`a.b.c` for such an expression, "" for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _parts(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """(field, what it holds) of a node, a list's entries one by one, but for what changes no number."""
    for field, value in ast.iter_fields(node):
        if field in QUIET_FIELDS or (isinstance(node, ast.Assert) and field == "msg"):
            continue
        if isinstance(node, ast.Raise) and isinstance(value, ast.Call):
            yield field, value.func  # what kind of error, not what it says
            continue
        for child in value if isinstance(value, list) else [value]:
            if child is not None and not _is_text(child):
                yield field, child


def _canonical(node: ast.AST) -> str:
    """The node as text: the same under every version of Python, as `ast.dump` and `ast.unparse` are not."""
    texts = [f"({type(node).__name__}"]
    for field, part in _parts(node):
        texts.append(f" {field}={_canonical(part) if isinstance(part, ast.AST) else repr(part)}")
    return f"{''.join(texts)})"


def _names(node: ast.AST) -> Iterator[str]:
    """The names, dotted where they are, that run in a node."""
    if dotted := _dotted(node):
        yield dotted
        return
    for _, part in _parts(node):
        if isinstance(part, ast.AST):
            yield from _names(part)
