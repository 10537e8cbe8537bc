"""Files that are whole or absent, and names that are safe."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgal.core.files import replacing, slug, write_atomically


@given(st.text(max_size=30))
def test_any_text_has_a_safe_name(text: str) -> None:
    name = slug(text)
    assert re.fullmatch(r"[a-z0-9_][a-z0-9_.-]*", name) and name == slug(name)


@given(old=st.binary(max_size=9), new=st.binary(max_size=9))
def test_a_reader_sees_the_old_file_or_the_new_one(old: bytes, new: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        write_atomically(path, old)
        with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
            temporary.write_bytes(new[:2])
            assert path.read_bytes() == old
            raise KeyboardInterrupt
        assert path.read_bytes() == old and os.listdir(folder) == ["result.json"]
        assert write_atomically(path, new) == path
        assert path.read_bytes() == new and os.listdir(folder) == ["result.json"]


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "x", b"").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "reslts" / "x", b"")
    assert not list(tmp_path.iterdir())
