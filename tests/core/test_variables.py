"""Seconds from the environment: a number in range, the default, or one line."""

from __future__ import annotations

import pytest

from rgal.core.errors import UserError
from rgal.core.variables import seconds_of


def test_what_is_set_counts_and_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUR_SECONDS", raising=False)
    assert seconds_of("OUR_SECONDS", 20.0, 1.0) == 20.0
    monkeypatch.setenv("OUR_SECONDS", "1.5")
    assert seconds_of("OUR_SECONDS", 20.0, 1.0) == 1.5
    for text in ("", "soon", "0.5", "nan", "inf", "-3"):
        monkeypatch.setenv("OUR_SECONDS", text)
        with pytest.raises(UserError, match=r"OUR_SECONDS=.*: expected seconds, 1 or more"):
            seconds_of("OUR_SECONDS", 20.0, 1.0)
