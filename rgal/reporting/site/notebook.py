"""A notebook as a page."""

from __future__ import annotations

import json
from pathlib import Path


def page_of_notebook(path: Path) -> str:
    """Write the cells of a notebook as Markdown: text as it is, code in fences, without output."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for text, kind in texts) + "\n"
