"""Find the column of labels in a Parquet file, and read labels of every kind as numbers of classes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rgal.core.errors import UserError

LabelKind = Literal["integer", "name", "bool", "float"]
LABEL_NAMES = (
    "label", "fine_label", "labels", "class", "target", "category", "cls", "class_label", "class_name", "label_name",
    "y",
)  # fmt: skip
# What holds integers and is called so is no label.
_NO_LABEL = re.compile(
    r"(.*[_ ])?(ids?|idx|index|row|width|height|size|length|fold|split|year|age|seed|number|count|area)[_ ]?\d*",
    re.IGNORECASE,
)


def label_column(path: Path, schema: Any) -> tuple[str, LabelKind]:
    """Choose the column of labels: one with a usual name, else the only one of integers.

    Args:
        path: the file, for messages.
        schema: its Arrow schema.

    Raises:
        UserError: there is none, or several may be it.
    """
    kinds = {field.name: kind for field in schema if (kind := _kind(field.type))}
    for names in ([name for name in kinds if kinds[name] == "integer"], list(kinds)):
        for usual in LABEL_NAMES:
            if usual in names:
                return usual, kinds[usual]
    integers = [
        name for name, kind in kinds.items() if kind == "integer" and not name.startswith("__")
    ]  # `__index_level_0__` is the row index that pandas leaves behind
    likely = [name for name in integers if not _NO_LABEL.fullmatch(name)]
    if len(likely) == 1:
        return likely[0], "integer"
    if len(likely) > 1:
        raise UserError(
            f"'{path}': found several columns that may be the label ({', '.join(likely)}), "
            f"expected one, or one called {', '.join(LABEL_NAMES[:3])}"
        )
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
    way = f"; '{integers[0]}' is not taken for one: call the column of labels 'label'" if integers else ""
    raise UserError(
        f"'{path}': found no label column, expected one of integers, or one called label; columns: {columns}{way}"
    )


def _kind(kind: Any) -> LabelKind | None:
    """Return what kind of labels a column of an Arrow type may hold; None for no kind."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "name"
    if pa.types.is_boolean(kind):
        return "bool"
    return "float" if pa.types.is_floating(kind) else None


def label_reader(kind: LabelKind, column: str, names: Sequence[str] | None) -> Callable[[Any], int]:
    """Make a function that turns a label into the number of its class. It raises ValueError that says what is wrong.

    Args:
        kind: of the column.
        column: its name, for messages.
        names: of the classes, for labels that are names.

    >>> label_reader("name", "label", ("cat", "dog"))("dog"), label_reader("float", "label", None)(3.0)
    (1, 3)
    """
    position = {name: index for index, name in enumerate(names or ())}

    def read(label: Any) -> int:
        if label is None:
            raise ValueError(
                f"found label null in '{column}', expected an integer from 0; a split without labels cannot be used"
            )
        if kind == "name":
            if label not in position:
                first = next(iter(position), "")
                raise ValueError(
                    f"found label {label!r} in '{column}', expected one of the {len(position)} training classes "
                    f"({first!r}, ...)"
                )
            return position[label]
        if not math.isfinite(label) or int(label) != label:
            raise ValueError(f"found label {label} in '{column}', expected a whole number")
        if label < 0:
            raise ValueError(
                f"found label {label} in '{column}', expected an integer from 0; a split without labels cannot be used"
            )
        return int(label)

    return read
