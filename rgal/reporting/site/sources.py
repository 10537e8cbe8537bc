"""What a suite file says beside an entry of a budget: the comments that name where its numbers were read."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml

UNKNOWN = "unknown:"


def source_of(suite: Path, budget: str, method: str = "") -> str:
    """Return the comment of a budget, or of a method's entry in it; "" where there is none.

    The comment of an entry stands on its line, else in the lines above it. That of a budget stands on its line, and
    goes on below it. Of a file that extends another one, what it leaves out is looked up there.

    Args:
        suite: the file.
        budget: the name of the budget.
        method: the entry, as it is written in the file; "": the budget's own comment.
    """
    lines, budgets, base = _read(suite)
    if budget not in budgets:
        return source_of(suite.with_name(base), budget, method) if base else ""
    at, entries = budgets[budget]
    if method:
        return _of_entry(lines, entries[method]) if method in entries else ""
    return _below(lines, at)


@cache
def _read(suite: Path) -> tuple[list[str], dict[str, tuple[int, dict[str, int]]], str]:
    """Return the lines, the line of each budget and of its entries by method, and the file that this one extends."""
    text = suite.read_text(encoding="utf-8")
    top = _children(yaml.compose(text, Loader=yaml.SafeLoader))
    budgets = {}
    for name, (line, node) in _children(top["budgets"][1]).items() if "budgets" in top else ():
        methods = _children(node).get("methods")
        entries = _children(methods[1]) if methods else {}
        budgets[name] = (line, {key: at for key, (at, _) in entries.items()})
    base = str(top["extends"][1].value) if "extends" in top else ""
    return text.splitlines(), budgets, base


def _children(node: yaml.Node | None) -> dict[str, tuple[int, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): (key.start_mark.line, value) for key, value in node.value}


def _of_entry(lines: list[str], at: int) -> str:
    if own := _comment(lines[at]):
        return own
    above: list[str] = []
    while at > 0 and lines[at - 1].lstrip().startswith("#"):
        at -= 1
        above.insert(0, _comment(lines[at]))
    return " ".join(above)


def _below(lines: list[str], at: int) -> str:
    texts = [_comment(lines[at])]
    for line in lines[at + 1 :]:
        comment = _comment(line)
        if not line.lstrip().startswith("#") or comment.startswith(UNKNOWN):
            break
        texts.append(comment)
    return " ".join(filter(None, texts))


def _comment(line: str) -> str:
    found = re.search(r"(?:^|\s)#\s*(.*)", line)
    return found[1].strip() if found else ""
