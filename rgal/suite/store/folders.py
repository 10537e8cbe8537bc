"""The store: one directory a trial, written atomically, readable by people.

    results/
      teachers/NAME-KEY.safetensors, .json        trained teachers
      trials/NAME-KEY/
        trial.json          what was asked for, completely resolved; fingerprint of the code; the machine it ran on
        metrics.jsonl       one row an event: loss parts, evaluations, seconds
        result.json         status and final numbers; written last
        checkpoint.pt       state of a trial that is not done; of a finished one that lacks its pictures
        student.safetensors, samples.png; layers.json of quantization; phases.json of phases
        pool.safetensors, pool/ if it is kept
        diversity.json      what the kept images are like; see results/README.md
        export.json         what was measured of an exported student (model.onnx)
      tables/, plots/, report.html       rendered from the above
      tensorboard/ mlflow/ wandb/   metrics.jsonl once more, as `--track` asks for
      .claims/              who works on what; see `claims`
      .index, .rendered/    what was read and made before; see `index` and `rgal.reporting.kept`

A trial without result.json is unfinished; one with status "failed" is run again. Only "finished" is cached.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rgal.core.errors import UserError
from rgal.core.files import check_may_write, slug, write_atomically
from rgal.suite.store.claims import FOLDER as CLAIMS
from rgal.suite.store.records import SCHEMA, key_of, read_json, read_record

__all__ = ["CHECKPOINT", "SCHEMA", "Metrics", "Store", "key_of", "read_json", "write_json"]

DISCARDED = ".discarded-"
CHECKPOINT = "checkpoint.pt"


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


class Metrics:
    """metrics.jsonl with a single writer. Rows after a checkpoint are cut off when a trial resumes from it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        check_may_write()
        text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        with open(self.path, "ab") as file:
            file.write(text.encode())
            file.flush()

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, size: int) -> None:
        check_may_write()
        if self.path.exists():
            os.truncate(self.path, size)

    def rows(self) -> list[dict[str, Any]]:
        """All complete rows; a torn last line is dropped."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                continue
        return rows


class Store:
    """A results directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the directory. UserError if it cannot be written."""
        try:
            for folder in (self.root / "trials", self.root / "teachers", self.root / CLAIMS):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UserError(
                f"results directory {self.root}: cannot be written ({reason}); choose another with --results"
            ) from error

    def remove_orphans(self) -> None:
        """Delete what killed processes left: temporary files, once they are an hour old, and discarded trials."""
        for folder in self.root.glob(f"{DISCARDED}*"):
            shutil.rmtree(folder, ignore_errors=True)
        latest = time.time() - 3600
        # As deep as files are written: the images of kept pools lie deeper, and may be many.
        for path in (path for depth in ("", "*/", "*/*/") for path in self.root.glob(f"{depth}.*.tmp")):
            with suppress(OSError):
                if path.is_file() and path.stat().st_mtime < latest:
                    path.unlink()

    def trial_folder(self, name: str, key: str) -> Path:
        return self.root / "trials" / f"{slug(name)}-{key}"

    def trial_folders(self) -> list[Path]:
        folder = self.root / "trials"
        return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    def status(self, folder: Path) -> str:
        """ "missing", or the status of its record: see `Record`."""
        return read_record(folder).status if folder.is_dir() else "missing"

    def fingerprint(self, folder: Path) -> str:
        """The fingerprint of the code that made a trial's numbers, "" if its record has none."""
        value = (read_json(folder / "trial.json") or {}).get("fingerprint")
        return value if isinstance(value, str) else ""

    def discard(self, folder: Path) -> None:
        """Delete a trial's folder, whose claim is held. Killed at any moment, it leaves all of the trial or nothing."""
        check_may_write()
        bin_ = self.root / f"{DISCARDED}{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            os.replace(folder, bin_)
        shutil.rmtree(bin_, ignore_errors=True)


class StorePart(Store):
    """Some of the trials of a results directory, whose folders are known."""

    def __init__(self, root: Path, folders: Sequence[Path]) -> None:
        super().__init__(root)
        self._folders = folders

    def trial_folders(self) -> list[Path]:
        return list(self._folders)


def trial_claim(folder: Path) -> str:
    """Name the claim of a trial by its folder."""
    return f"trial-{key_of(folder)}"
