"""The index of a store: never the truth, only a shorter way to it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rgal.suite.store import index
from rgal.suite.store.folders import Store
from rgal.suite.store.index import NAME, Entry, Index
from rgal.suite.store.records import read_record
from tests.helpers.store_builders import add_trial, change, grid_png, settings


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of tests are new; let the index trust them at once."""
    monkeypatch.setattr(index, "SETTLED_NS", -(10**12))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the folders that were read, in order."""
    folders: list[str] = []
    real = index._read

    def reading(folder: Path) -> Entry:
        folders.append(folder.name.rpartition("-")[2])
        return real(folder)

    monkeypatch.setattr(index, "_read", reading)
    return folders


def some_store(root: Path) -> Store:
    for seed in range(3):
        folder = add_trial(root, f"{seed}" * 12, settings(seed=seed), last=90.0 + seed)
        (folder / "samples.png").write_bytes(grid_png())
    (root / "trials" / "notes").mkdir()
    return Store(root)


def entries(store: Store) -> list[str]:
    """All that is known of the folders, as text: unknown numbers are equal there."""
    return [repr(entry) for entry in Index(store.root).entries(store.trial_folders())]


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, read: list[str]) -> None:
    store = some_store(tmp_path)
    first = entries(store)
    assert read == ["0" * 12, "1" * 12, "2" * 12, "notes"] and len(first) == 4
    assert entries(store) == first and len(read) == 4
    folder = store.trial_folders()[0]
    assert Index(store.root).record(folder) == read_record(folder) and len(read) == 4


def in_place(path: Path) -> None:
    """Other bytes of the same number, and the time of before."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"93.0", b"13.0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Any] = {
    "another number": lambda folder: change(folder / "result.json", last=1.0),
    "the same size and time": lambda folder: in_place(folder / "result.json"),
    "an event": lambda folder: (folder / "metrics.jsonl").write_text("{}\n"),
    "a new file": lambda folder: (folder / "export.json").write_text(
        json.dumps({"measured": {"onnx_mb": 2.0}})
    ),
    "a lost file": lambda folder: (folder / "result.json").unlink(),
    "another picture": lambda folder: (folder / "samples.png").write_bytes(b"none"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_any_change_of_a_folder_is_seen(what: str, tmp_path: Path, read: list[str]) -> None:
    store = some_store(tmp_path)
    first = entries(store)
    CHANGES[what](store.trial_folders()[1])
    read.clear()
    second = entries(store)
    assert read == ["1" * 12]
    assert second[1] != first[1] and second[1].rpartition("digest=")[2] != first[1].rpartition("digest=")[2]
    assert [second[0], *second[2:]] == [first[0], *first[2:]]
    (store.root / NAME).unlink()
    assert entries(store) == second


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"",
        lambda text: b"\x00\xff" * 99,
        lambda text: text[: len(text) // 2],
        lambda text: text.replace(b"92.0", b"12.0"),
        lambda text: b"0" * 64 + text[64:],
        lambda text: text.replace(b"\t", b" "),
        lambda text: text.replace(b'"status"', b'"nobody"'),
    ],
)
def test_an_odd_index_is_as_none(spoil: Any, tmp_path: Path) -> None:
    store = some_store(tmp_path)
    first, path = entries(store), store.root / NAME
    path.write_bytes(spoil(path.read_bytes()))
    assert entries(store) == first
    assert entries(store) == first


def test_other_code_reads_anew(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    store = some_store(tmp_path)
    entries(store)
    monkeypatch.setattr(index, "_code", lambda: b"newer")
    entries(store)
    assert len(read) == 8


def test_a_file_that_has_just_changed_is_not_trusted(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SETTLED_NS", 2 * 10**9)
    store = some_store(tmp_path)
    assert entries(store) == entries(store) and read.count("1" * 12) == 2


def test_a_folder_that_cannot_be_written_has_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = some_store(tmp_path)

    def refuse(*_: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(index, "write_atomically", refuse)
    assert entries(store) == entries(store) and not (store.root / NAME).exists()


def test_moved_and_removed_folders(tmp_path: Path, read: list[str]) -> None:
    store = some_store(tmp_path / "a")
    first = entries(store)
    shutil.copytree(store.root, tmp_path / "b")
    copy = Store(tmp_path / "b")
    shutil.rmtree(copy.trial_folders()[0])
    moved = [text.replace(str(copy.root), str(store.root)) for text in entries(copy)]
    assert moved == first[1:]
    assert read[4:] == ["1" * 12, "2" * 12]  # an empty folder is as it was, wherever it lies
