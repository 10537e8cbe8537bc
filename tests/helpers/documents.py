"""The documentation as text."""

from __future__ import annotations

import re
from pathlib import Path

from rgal import cli

ROOT = Path(cli.__file__).parents[1]


def code_blocks(document: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)
