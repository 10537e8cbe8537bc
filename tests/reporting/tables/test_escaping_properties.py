"""Whatever a name or a reason holds, a table stays a table and says it."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from rgal.reporting.tables.latex import latex_texts
from rgal.reporting.tables.table import markdown_text

MARKUP = "\\`*_|<>[](){}~^$#%&-\"' ab1é\n\t→∀"
TEXTS = st.text(alphabet=MARKUP, max_size=20) | st.text(max_size=20)


def one_line(text: str) -> str:
    return " ".join(text.replace("->", "→").split())


@given(text=TEXTS)
@example("a_b __c__ [x](y) `z` **w** | \\| ~~v~~ <b>")
def test_markdown_shows_the_text_and_keeps_its_cell(text: str) -> None:
    escaped = markdown_text(text)
    assert re.sub(r"\\([\\`*_|<~\]])", r"\1", escaped) == one_line(text)
    plain = re.sub(r"\\.", "", escaped)
    assert not re.search(r"[`*|<~]|\][(\[]", plain)


@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@example(["50 % of {x}_y & #1 \\ ~ ^ $", "", "a \\\\"])
def test_latex_has_a_line_for_each_text_and_no_command_of_theirs(texts: list[str]) -> None:
    lines = latex_texts(texts)
    assert len(lines) == len(texts)
    for text, line in zip(texts, lines, strict=True):
        assert len(line.splitlines()) <= 1 and all(" " <= char <= "~" or "À" <= char <= "ſ" for char in line)
        assert not re.search(r"(?<!\\)[%#&_]", line), text
        depth = 0
        for brace in re.findall(r"(?<!\\)[{}]", line):
            depth += 1 if brace == "{" else -1
            assert depth >= 0, text
        assert depth == 0, text
