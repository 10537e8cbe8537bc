"""How the code is built: methods are data, and nothing is copied from one to another."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

from rgal import baselines

FOLDER = Path(baselines.__file__).parent
SHARED = 6  # lines in a row that make a copy


def code_lines(path: Path) -> list[str]:
    """Lines of code, without imports: those are the same wherever the same parts are used."""
    body = path.read_text(encoding="utf-8").split('"""', 2)[2]
    lines = [line.strip() for line in body.splitlines()]
    return [line for line in lines if line and not line.startswith(("from ", "import ", "#"))]


def runs(lines: list[str]) -> set[tuple[str, ...]]:
    return {tuple(lines[i : i + SHARED]) for i in range(len(lines) - SHARED + 1)}


def test_no_two_methods_share_six_lines_in_a_row() -> None:
    found = {path.name: runs(code_lines(path)) for path in sorted(FOLDER.glob("*.py"))}
    copies = {(a, b): found[a] & found[b] for a, b in combinations(found, 2) if found[a] & found[b]}
    assert not copies


def test_no_test_file_is_taken_for_a_library() -> None:
    """What several test files use stands in tests/helpers."""
    imports = re.compile(r"^\s*(?:from|import) tests\S*\.test_.*", re.M)
    files = sorted(Path(__file__).parent.rglob("*.py"))
    found = {str(path): imports.findall(path.read_text(encoding="utf-8")) for path in files}
    assert not {path: lines for path, lines in found.items() if lines}, "move what is shared to tests/helpers"


def test_no_file_is_long() -> None:
    """About 400 lines of any file, ours and the tests'."""
    root = FOLDER.parent
    folders = ("rgal", "tasks", "baselines", "benchmarks", "tests")
    files = [path for folder in folders for path in (root / folder).rglob("*.py")]
    long = {str(p.relative_to(root)): n for p in files if (n := len(p.read_text().splitlines())) > 430}
    assert not long
