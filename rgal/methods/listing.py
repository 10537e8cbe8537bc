"""What a reader is told of methods: all of them in short, one with its parameters, RGAL's options for the docs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable

from rgal.core.errors import UserError, nearest
from rgal.methods.meanings import meaning_of
from rgal.methods.parameters import Parameter, parameters, text_of
from rgal.methods.registry import Method, methods
from rgal.methods.rgal_options import RgalOptions


def list_methods(names: Iterable[str] = (), task: str = "") -> str:
    """List all methods with their tasks and reference; or describe those that are named, with their parameters.

    Args:
        names: registered methods; none: all of them, in short.
        task: the one whose methods are listed; "": any.

    Raises:
        UserError: a name is that of no method.
    """
    registered = methods()
    for name in names:
        if name not in registered:
            raise UserError(f"--list methods {name}: {nearest(name, registered)}")
    described = [_described(registered[name]) for name in names]
    return "\n\n".join(described) or "\n".join(
        _heading(method) for method in registered.values() if not task or task in method.tasks
    )


def options_table() -> str:
    """Write RGAL's parameters as the Markdown table of docs/methods.md."""
    lines = ["| parameter and default | value | meaning | source |", "|---|---|---|---|"]
    for option in parameters(RgalOptions).values():
        name = f"`{option.name}={text_of(option.default)}`"
        cells = (name, option.type_text, option.meaning, option.source)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _heading(method: Method) -> str:
    return f"{method.name:<14} [{', '.join(method.tasks)}] {method.reference}"


def _described(method: Method) -> str:
    """A method with a line for each parameter, and what its file says of it."""
    rows = [_cells(method.name, parameter) for parameter in method.parameters.values()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in rows
    ]
    prose = inspect.getdoc(sys.modules[method.module]) or ""
    return "\n".join([_heading(method), "", *lines, "", prose]).rstrip()


def _cells(method: str, parameter: Parameter) -> tuple[str, str, str, str]:
    source = f" ({parameter.source})" if parameter.source else ""
    return (
        parameter.name,
        text_of(parameter.default) or '""',
        parameter.type_text,
        meaning_of(method, parameter) + source,
    )
