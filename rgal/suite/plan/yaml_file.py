"""Read a suite file: one YAML mapping, in which a key given twice is an error. It is untrusted: nothing in it can run,
fill the memory or end the process.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from rgal.core.errors import UserError

# PyYAML brings the C parser, eight times as fast, on most platforms.
SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_BYTES = 1_000_000  # of a file
MOST_DEPTH = 40  # lists and mappings inside each other
MOST_VALUES = 100_000  # each alias counted as all that it stands for


class _UniqueKeyLoader(SAFE_LOADER):
    """SafeLoader that refuses a key given twice instead of silently keeping the last."""


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            break  # PyYAML refuses it, with the line
        if key in seen:
            line = key_node.start_mark.line + 1
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice (line {line})")
        seen.add(key)
    return yaml.constructor.SafeConstructor.construct_mapping(loader, node, deep)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


# YAML 1.1 reads 1:30 as ninety, which nobody means.
_CLOCK = ("tag:yaml.org,2002:str", re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$"))
_UniqueKeyLoader.yaml_implicit_resolvers = {
    first: [_CLOCK, *resolvers] if first in "+-0123456789" else resolvers
    for first, resolvers in _UniqueKeyLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. UserError with file and line when it is none."""
    data = parse_yaml(_text_of(path), f"{path}: not valid YAML")
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(data).__name__}")
    return data


def parse_yaml(text: str, fault: str) -> Any:
    """Return the value that a text of YAML stands for.

    Args:
        text: YAML.
        fault: the beginning of the message where it is none, or has too much in it.

    Raises:
        UserError: it is none, is nested deeper than `MOST_DEPTH`, or its aliases multiply to over `MOST_VALUES` values.
    """
    try:
        _check_depth(text)
        loader = _UniqueKeyLoader(text)
        try:
            node = loader.get_single_node()
            _count(node, {})
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except Exception as error:  # PyYAML passes on whatever Python says of `!!int ""` or the 45th of a month
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        what = (str(getattr(error, "problem", None) or error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{fault}{where}: {what}") from error


def _text_of(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is {'a directory' if path.is_dir() else 'no regular file'}")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path}: larger than any suite file ({MOST_BYTES:,} bytes)")
        return content.decode("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # a ValueError: no UTF-8, or a name that no file can have
        raise UserError(f"{path}: cannot be read ({type(error).__name__})") from error


def _check_depth(text: str) -> None:
    """Refuse nesting before nodes are made of it, which is recursive."""
    depth = 0
    for event in _events(text):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            problem = f"nested deeper than {MOST_DEPTH} levels"
            raise yaml.constructor.ConstructorError(None, None, problem, event.start_mark)


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=_UniqueKeyLoader)


def _count(node: yaml.Node | None, sizes: dict[int, int]) -> int:
    """Count the values below a node, an alias as what it stands for. A node on the way to itself has no size yet."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = -1
        below = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        sizes[id(node)] = 1 + sum(_count(part, sizes) for part in below)
    problem = ""
    if sizes[id(node)] < 0:
        problem = "an alias stands for a list or mapping around itself"
    elif sizes[id(node)] > MOST_VALUES:
        problem = f"its aliases stand for more than {MOST_VALUES:,} values"
    if problem:
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return sizes[id(node)]
