"""What a terminal shows of a table: a few columns, as wide as it is. Without the numbers that they were made of."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate


@dataclass(frozen=True)
class Brief:
    """A table's short form.

    Attributes:
        caption, verdict: what stands above it.
        columns: (heading, whether it holds words, its cells), the most important first.
        remarks: lines below all tables.
    """

    caption: str
    verdict: Sequence[str]
    columns: Sequence[tuple[str, bool, Sequence[str]]]
    remarks: Sequence[str]

    def text(self, width: int) -> str:
        """Return the caption, the verdict and as many columns as fit, in lines of `width` characters.

        The first two columns are there whatever the width.
        """
        columns = [column for column in self.columns if any(column[2])]
        while (
            len(columns) > 2
            and sum(2 + max(map(len, (head, *cells))) for head, _, cells in columns) > width + 2
        ):
            columns.pop()
        lines = [self.caption.replace("->", "→"), *self.verdict]
        text = "\n".join(in_lines(line, width) for line in lines)
        if not columns:
            return text
        heads, words, cells = zip(*columns, strict=True)
        align = ["left" if word else "right" for word in words]
        body = list(zip(*cells, strict=True))
        plain = tabulate(body, heads, tablefmt="simple", colalign=align, disable_numparse=True)
        return f"{text}\n\n{plain}"


def in_lines(text: str, width: int) -> str:
    """Break a text into lines of at most `width` characters; a longer word, a path say, stays in one piece."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
