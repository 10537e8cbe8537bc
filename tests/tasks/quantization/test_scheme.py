"""Bit widths as text."""

from __future__ import annotations

import pytest

from rgal.core.errors import UserError
from rgal.tasks.quantization.scheme import WIDTHS, Bits


def test_bits_parse_and_str_are_inverse() -> None:
    for k in WIDTHS:
        assert Bits.parse(f" W{k}a{10 - k} ") == Bits(k, 10 - k) and str(Bits(k, 10 - k)) == f"w{k}a{10 - k}"


@pytest.mark.parametrize(
    "text", ["w4", "w1a4", "w4a1", "w9a9", "4", "a4", "w4a4x", "", "w-4a4", "w4.0a4", "4w4a"]
)
def test_bits_parse_refuses_other_texts_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^bits '.*': .*$") as error:
        Bits.parse(text)
    assert "\n" not in str(error.value) and repr(text) in str(error.value)
