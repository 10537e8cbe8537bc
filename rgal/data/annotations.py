"""Read tables that give the classes of images which do not lie in class folders.

Such are `val_annotations.txt` of Tiny-ImageNet (file, class, box), `LOC_val_solution.csv` of ImageNet on Kaggle (name,
class and boxes) and the `train.csv` of many others: a line an image, its name first and its class second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rgal.core.errors import UserError

_TABLES = (".txt", ".csv", ".tsv")
_LARGEST = 200_000_000  # bytes of a file that is looked into


def classes_of(images: Sequence[Path], places: Sequence[Path]) -> tuple[Path, Mapping[Path, str]] | None:
    """Find the table that names the class of every image.

    Args:
        images: the files.
        places: folders to look for tables in, in this order.

    Returns:
        The table and the class of each image; None if no table names any of them.

    Raises:
        UserError: a table names only some of them.
    """
    partial: tuple[Path, int, Path] | None = None
    for place in dict.fromkeys(places):
        for table in sorted(path for path in place.iterdir() if path.suffix.lower() in _TABLES):
            rows = _rows(table)
            found = {image: rows.get(image.name) or rows.get(image.stem) for image in images}
            named = {image: name for image, name in found.items() if name}
            if len(named) == len(images):
                return table, named
            if named and (partial is None or len(named) > partial[1]):
                partial = table, len(named), next(image for image, name in found.items() if not name)
    if partial:
        table, count, image = partial
        raise UserError(
            f"'{table}' names the classes of {count} of {len(images)} images, not that of '{image}'; expected all"
        )
    return None


def _rows(table: Path) -> dict[str, str]:
    """Read the first two cells of each line: the name of a file, without folders, and the first word of the class."""
    if not table.is_file() or table.stat().st_size > _LARGEST:
        return {}
    rows: dict[str, str] = {}
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = [
            cell.strip().strip('"')
            for cell in re.split(r"[,;\t]" if re.search(r"[,;\t]", line) else r"\s+", line)
        ]
        if len(cells) > 1 and cells[0] and cells[1]:
            rows[cells[0].replace("\\", "/").rpartition("/")[2]] = _class(cells[1])
    return rows


def _class(cell: str) -> str:
    """Return a class; of ImageNet's "n03995372 85 1 499 272", a class with its boxes, the class."""
    first, _, rest = cell.partition(" ")
    return first if re.fullmatch(r"[\d. ]+(n\d{8}.*)?", rest) else cell
