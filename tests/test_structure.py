"""How the house is built: imports go down, nothing is long, methods are data and nothing is copied among them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SHARED = 6  # lines in a row that make a copy
LONGEST_FILE, LONGEST_FUNCTION = 400, 50

GROUND = {"core"}
PARTS = GROUND | {"terms", "nets", "data"}
SYNTHESIS = PARTS | {"synthesis"}
METHODS = SYNTHESIS | {"methods"}
SUITE = METHODS | {"engine", "analysis", "suite"}
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "terms": GROUND,
    "nets": GROUND,
    "data": GROUND,
    "synthesis": PARTS - {"data"},  # data-free by construction
    "methods": SYNTHESIS,
    "engine": METHODS,
    "analysis": METHODS,
    "suite": METHODS | {"engine", "analysis"},
    "tasks": SUITE,
    "reporting": SUITE | {"benchmarks"},  # which holds the published numbers
    "baselines": (METHODS - {"data"}) | {"tasks"},
    "benchmarks": SUITE | {"tasks", "baselines"},
    "api": SUITE | {"tasks", "benchmarks"},  # budgets are those of the suites
}
ROOF = {"rgal/__init__.py", "rgal/cli.py"}  # these may import every room


class Import(NamedTuple):
    """One import of a module of ours, wherever it stands: at the top, in a function or for the type checker only."""

    file: str
    line: int
    module: str

    @property
    def room(self) -> str:
        return self.module.split(".")[1]


def python_files(folder: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), parsed(path.resolve())


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def rooms() -> list[str]:
    """The packages inside rgal; tasks, baselines and benchmarks are links to the folders at the top."""
    return sorted(path.name for path in (ROOT / "rgal").iterdir() if (path / "__init__.py").exists())


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: write the import from rgal on"
            names = [f"rgal.{alias.name}" for alias in node.names]
            yield from (
                (node.lineno, name) for name in (names if node.module == "rgal" else [str(node.module)])
            )


def imports(room: str) -> list[Import]:
    """All that a room imports of rgal's rooms; `from rgal import __version__` names no room."""
    every = [Import(file, *place) for file, tree in python_files(f"rgal/{room}") for place in imported(tree)]
    return [one for one in every if re.match(r"rgal\.(?!__)", one.module)]


def test_imports_go_down() -> None:
    wrong = [
        f"{one.file}:{one.line} imports {one.module}: {room} may import only "
        f"{', '.join(sorted(MAY_IMPORT[room])) or 'what is no part of rgal'}"
        for room in rooms()
        for one in imports(room)
        if one.room not in MAY_IMPORT[room] | {room}
    ]
    assert not wrong, "\n".join(["an import goes up:", *wrong])


def test_every_room_has_a_place_in_the_order() -> None:
    assert set(rooms()) == set(MAY_IMPORT)


def test_no_module_lies_between_the_rooms() -> None:
    loose = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rgal").glob("*.py")}
    assert loose <= ROOF, f"give these a room: {sorted(loose - ROOF)}"


def test_every_package_says_in_a_line_what_is_in_it() -> None:
    packages = {file: tree for room in rooms() for file, tree in python_files(f"rgal/{room}")}
    inits = {
        file: ast.get_docstring(tree) or "" for file, tree in packages.items() if file.endswith("__init__.py")
    }
    mute = [file for file, text in inits.items() if not re.match(r"[^\n]{10,}\.(\n|$)", text)]
    assert not mute, f"the docstring's first line is not a sentence: {mute}"


def all_files() -> list[tuple[str, ast.Module]]:
    return [
        pair
        for folder in ("rgal", "tasks", "baselines", "benchmarks", "tests")
        for pair in python_files(folder)
    ]


def test_no_function_is_long() -> None:
    lengths = {
        f"{file} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for file, tree in all_files()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {place: lines for place, lines in lengths.items() if lines > LONGEST_FUNCTION}
    assert not long, f"functions over {LONGEST_FUNCTION} lines: {long}"


def test_no_file_is_long() -> None:
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file, _ in all_files()}
    long = {file: lines for file, lines in lengths.items() if lines > LONGEST_FILE}
    assert not long, f"files over {LONGEST_FILE} lines: {long}"


def test_no_test_file_is_taken_for_a_library() -> None:
    """What several test files use stands in tests/helpers."""
    wrong = [
        f"{file}:{line} imports {name}"
        for file, tree in python_files("tests")
        for line, name in imported(tree)
        if re.match(r"tests\..*\btest_", name)
    ]
    assert not wrong, "\n".join(["move what is shared to tests/helpers:", *wrong])


def test_the_tests_have_the_rooms_of_the_code() -> None:
    """Contracts are about every method of every task; helpers hold what several tests are built from."""
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    without = sorted(str(f) for f in folders if not (ROOT / "rgal" / f).is_dir() and str(f) != "contracts")
    assert not without, f"rgal has no such rooms: {without}"


def code_lines(path: Path) -> list[str]:
    """Lines of code, without what is alike wherever the same parts are used: imports, signatures, docstrings."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            left_out |= set(range(node.lineno, node.body[0].lineno))
        elif isinstance(node, ast.Import | ast.ImportFrom | ast.Expr):
            left_out |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in left_out]
    return [line for line in lines if line and not line.startswith("#")]


def runs(lines: list[str]) -> set[tuple[str, ...]]:
    return {tuple(lines[i : i + SHARED]) for i in range(len(lines) - SHARED + 1)}


def test_no_two_methods_share_six_lines_in_a_row() -> None:
    of_file = {path.name: runs(code_lines(path)) for path in sorted((ROOT / "baselines").glob("*.py"))}
    copies = {(a, b): of_file[a] & of_file[b] for a, b in combinations(of_file, 2) if of_file[a] & of_file[b]}
    assert not copies
