"""What a user is told: one line, with the place in their own code and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgal.core.errors import first_line, in_one_line, in_short, nearest


@given(st.text(max_size=8), st.lists(st.text("abcdefg", min_size=1, max_size=6), max_size=5, unique=True))
def test_a_hint_is_a_valid_name(name: str, valid: list[str]) -> None:
    text = nearest(name, valid)
    assert text.endswith(f"valid: {', '.join(sorted(valid))}")
    assert text.startswith("valid:") or any(text.startswith(f"did you mean '{one}'? ") for one in valid)


def test_a_typing_mistake_finds_its_name() -> None:
    assert nearest("deepinversio", ["cmi", "deepinversion"]).startswith("did you mean 'deepinversion'?")


@given(st.text(max_size=30))
def test_any_message_becomes_one_line(message: str) -> None:
    error = ValueError(message)
    for text in (first_line(error), in_short(error), in_one_line(error)):
        assert text and len(text.splitlines()) <= 1


def raised_in(source: str, file: Path) -> BaseException:
    file.write_text(source)
    try:
        exec(compile(source, str(file), "exec"), {})
    except Exception as error:
        return error
    raise AssertionError("it does not fail")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n{}['width']\n", "KeyError: 'width' (my_nets.py, line 2)"),
        ("import json\njson.loads('{')\n", "(my_nets.py, line 2)"),
        ("from rgal import nets\n\nnets.build('none', 2, 1, 8)\n", "(my_nets.py, line 3)"),
        ("x = (\n", "SyntaxError: '(' was never closed (my_nets.py, line 1)"),
    ],
)
def test_the_place_is_the_users(source: str, expected: str, tmp_path: Path) -> None:
    """Not where Python's or our own code stumbled over it."""
    assert in_one_line(raised_in(source, tmp_path / "my_nets.py")).endswith(expected)
