"""What was read of every trial's folder, kept so that the next look at a store reads only what has changed.

`.index` in the results directory has a line for each folder. It is never the truth: a line counts only while every file
that it was read from is the same (name, times, size and number of the file), and without the file, or where anything
in it is odd, the folders are read. It is replaced as a whole, so that any number of processes may read and write it;
where it cannot be written there is none. It is no database: one would need locks, which shared folders may not have.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import rgal
from rgal.core.cores import granted_cores
from rgal.core.files import write_atomically
from rgal.core.stand_ins import COMPUTING, DRAWING, install
from rgal.suite.store.damaged import damaged_records
from rgal.suite.store.frames import Point, Row, curve_points, result_row
from rgal.suite.store.records import Record, read_record
from rgal.suite.task import measures_of, tasks

NAME = ".index"
BESIDE_JSON = ("metrics.jsonl", "samples.png", "error.txt")  # files that reports depend on, beside *.json
MANY = 400  # folders to read, for which a process is worth its start
SETTLED_NS = 2_000_000_000  # a file that changed so recently may change again within one tick of its clock


@dataclass(frozen=True)
class Entry:
    """What reports need of one folder below trials/.

    Attributes:
        record: as `read_record` reads it.
        row: its row of results.
        curve: its evaluations.
        damage: what is wrong with files beside a good record.
        files: names of those that are there, in order.
        digest: a hash of all this, and of the content of the files.
    """

    record: Record
    row: Row
    curve: Sequence[Point]
    damage: Sequence[str]
    files: Sequence[str]
    digest: str


class Index:
    """The entries of a results directory."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / NAME
        self._lines: dict[bytes, tuple[bytes, bytes]] | None = None  # folder -> (signature, what was read)

    def record(self, folder: Path) -> Record:
        """Return a folder's record: as it was read, if nothing there has changed, else as it is read now."""
        entry = self._known(folder, _signature(folder)[0])
        return entry.record if entry else read_record(folder)

    def entries(self, folders: Sequence[Path]) -> list[Entry]:
        """Return what these folders, all that there are, hold; and keep what was read anew for the next time."""
        lines: dict[bytes, tuple[bytes, bytes]] = {}
        signatures = {folder: _signature(folder) for folder in folders}
        known = {folder: self._known(folder, signature) for folder, (signature, _) in signatures.items()}
        began = time.time_ns()
        anew = _read_all([folder for folder, entry in known.items() if entry is None])
        for folder, (signature, changed) in signatures.items():
            if folder not in anew:
                lines[os.fsencode(folder.name)] = self._all()[os.fsencode(folder.name)]
            elif changed + SETTLED_NS < began:
                lines[os.fsencode(folder.name)] = signature, _packed(anew[folder])
        if lines != self._all():
            self._write(lines)
        return [known[folder] or anew[folder] for folder in folders]

    def _known(self, folder: Path, signature: bytes) -> Entry | None:
        before, content = self._all().get(os.fsencode(folder.name), (b"", b""))
        if not signature or before != signature:
            return None
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            return _unpacked(folder, content)
        return None

    def _all(self) -> dict[bytes, tuple[bytes, bytes]]:
        if self._lines is None:
            self._lines = {}
            with suppress(OSError, ValueError):
                head, *lines = self.path.read_bytes().splitlines()
                if head == _version():
                    for line in lines:
                        name, signature, content = line.split(b"\t")
                        self._lines[bytes.fromhex(name.decode())] = signature, content
        return self._lines

    def _write(self, lines: dict[bytes, tuple[bytes, bytes]]) -> None:
        body = (b"\t".join((name.hex().encode(), *line)) for name, line in lines.items())
        with suppress(OSError):
            write_atomically(self.path, b"\n".join((_version(), *body)) + b"\n")
        self._lines = lines


def _signature(folder: Path) -> tuple[bytes, int]:
    """Return what tells whether a folder's files are those that were read, and when the last of them changed (ns).

    Where nothing can tell, it is b"".
    """
    files, latest = [], 0
    try:
        with os.scandir(folder) as there:
            for item in there:
                if _matters(item.name):
                    seen = item.stat()
                    latest = max(latest, seen.st_mtime_ns, seen.st_ctime_ns)
                    about = (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino)
                    files.append((os.fsencode(item.name), *about))
    except OSError:
        return b"", 0
    return hashlib.sha256(repr(sorted(files)).encode()).hexdigest().encode(), latest


def _read_all(folders: Sequence[Path]) -> dict[Path, Entry]:
    """Read folders: many of them with all cores."""
    workers = min(granted_cores(), len(folders) // MANY)
    if workers < 2 or any(not type(task).__module__.startswith("rgal.") for task in tasks().values()):
        return {folder: _read(folder) for folder in folders}  # a process of its own knows no plug-in
    spawn = multiprocessing.get_context("spawn")  # not forked: this process may have threads
    libraries = (*COMPUTING, *DRAWING)
    with ProcessPoolExecutor(workers, spawn, initializer=install, initargs=libraries) as pool:
        return dict(zip(folders, pool.map(_read, folders, chunksize=MANY // 8), strict=True))


def _read(folder: Path) -> Entry:
    record = read_record(folder)
    row = result_row(record)
    damage = [damaged.reason for damaged in damaged_records([record])]
    files, digest = [], hashlib.sha256()
    for name in sorted(_files(folder)):
        files.append(name)
        digest.update(name.encode("utf-8", "surrogateescape"))
        with suppress(OSError):
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return Entry(record, row, curve_points(record, row), damage, files, digest.hexdigest())


def _files(folder: Path) -> Iterator[str]:
    with suppress(OSError):
        yield from (item.name for item in folder.iterdir() if _matters(item.name) and item.is_file())


def _matters(name: str) -> bool:
    """Tell whether reports depend on the file of this name."""
    return name.endswith(".json") or name in BESIDE_JSON


def _packed(entry: Entry) -> bytes:
    """Write an entry on one line that has no tabulator: its hash, a space, JSON."""
    record = {name: value for name, value in vars(entry.record).items() if name != "folder"}
    text = json.dumps(vars(entry) | {"record": record}).encode()
    return hashlib.sha256(text).hexdigest().encode() + b" " + text


def _unpacked(folder: Path, content: bytes) -> Entry:
    """Read what `_packed` wrote. ValueError, TypeError or KeyError for anything else."""
    digest, _, text = content.partition(b" ")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise ValueError("damaged")
    value: dict[str, Any] = json.loads(text)
    return Entry(**(value | {"record": Record(folder, **value["record"])}))


@cache
def _code() -> bytes:
    digest = hashlib.sha256()
    home = Path(rgal.__file__).parent
    for path in sorted((home / "suite").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _version() -> bytes:
    """Return a hash of the code that reads folders, and of what the tasks measure: other code reads anew."""
    measured: Mapping[str, Any] = {name: measures_of(name) for name in sorted(tasks())}
    return hashlib.sha256(_code() + repr(measured).encode()).hexdigest().encode()
