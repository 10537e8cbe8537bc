"""rgal.data: decoded images are kept, and never trusted blindly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import rgal.data.decode as decode_module
from rgal.data import load
from tests.helpers.data_builders import encoded, image_folder, pixels, shard, tiny


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one for every image decoded."""
    calls: list[int] = []
    real = decode_module.decode

    def counting(data: bytes) -> torch.Tensor:
        calls.append(len(data))
        return real(data)

    monkeypatch.setattr(decode_module, "decode", counting)
    return calls


def test_cache_saves_decoding_and_changes_nothing(tmp_path: Path, decodes: list[int]) -> None:
    root, cache = tiny(tmp_path / "set", class_names=["a", "b"]), tmp_path / "cache"
    first = load("mine", root, cache=cache)
    assert len(decodes) == 8
    second = load("mine", root, cache=cache)
    assert len(decodes) == 8
    assert first.spec == second.spec
    assert second.spec.class_names == ("a", "b")
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]
    load("mine", root, size=4, cache=cache)
    assert len(decodes) == 16  # another size is another entry


def test_cache_notices_changed_sources(tmp_path: Path, decodes: list[int]) -> None:
    root = tiny(tmp_path / "set")
    before = load("mine", root).spec.fingerprint
    path = root / "train-0.parquet"
    images = [encoded(pixels(index)) for index in range(6)]
    shard(path, images, [0, 1, 0, 1, 1, 0])
    os.utime(path, ns=(1, 1))
    after = load("mine", root)
    assert after.train.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert after.spec.fingerprint != before
    assert len(decodes) == 16
    os.utime(path, ns=(2, 2))  # same bytes, other time: decoded again, same fingerprint
    assert load("mine", root).spec == after.spec
    assert len(decodes) == 24


def test_damaged_cache_is_rebuilt(tmp_path: Path, decodes: list[int]) -> None:
    root, cache = tiny(tmp_path / "set"), tmp_path / "cache"
    expected = load("mine", root, cache=cache)
    (entry,) = cache.iterdir()
    good = entry.read_bytes()
    flipped = bytearray(good)
    flipped[-1] ^= 1  # one bit of a pixel or label
    for number, bad in enumerate((b"", b"garbage", good[: len(good) // 2], bytes(flipped)), start=1):
        entry.write_bytes(bad)
        assert load("mine", root, cache=cache).spec == expected.spec
        assert len(decodes) == 8 * (1 + number), f"damage {number} was not noticed"
        assert load("mine", root, cache=cache).spec == expected.spec
        assert len(decodes) == 8 * (1 + number), f"damage {number} was not repaired"


def test_unwritable_cache_is_only_slower(tmp_path: Path, decodes: list[int]) -> None:
    root = tiny(tmp_path / "set")
    (tmp_path / "file").write_text("a file where the folder should be")
    for count in (8, 16):
        assert len(load("mine", root, cache=tmp_path / "file").train) == 6
        assert len(decodes) == count
    (tmp_path / "file").unlink()


def test_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("rgal.data.cache.os.replace", full)
    assert len(load("mine", tiny(tmp_path / "set"), cache=tmp_path / "cache").train) == 6
    assert list((tmp_path / "cache").iterdir()) == []


def test_folder_cache(tmp_path: Path, decodes: list[int]) -> None:
    root = image_folder(tmp_path / "set")
    first = load("pets", root)
    assert load("pets", root).spec == first.spec
    assert len(decodes) == 6
    (root / "train" / "ant" / "9.png").write_bytes(encoded(pixels(9)))
    assert len(load("pets", root).train) == 5
