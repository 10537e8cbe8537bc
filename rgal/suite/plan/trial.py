"""A trial: task x setting x method x seed x budget, resolved completely before it runs; and its key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from rgal.core.files import slug

# Marks fields that change no number: where things lie on this machine, how tables call and order them.
BESIDE_THE_KEY = {"in_key": False}
HELD_OUT = "held-out images"  # what trials are evaluated on where there are no test images
# Marks fields that are in the key where they say something: a trial without them is the one it was before they were.
IN_KEY_IF_SET = {"in_key": "if set"}


@dataclass(frozen=True)
class Trial:
    """All that was asked for in one trial, resolved completely.

    Attributes:
        data: fingerprint of the images.
        teacher_key: names the trained or given teacher.
        schedule: how long the method runs, after the budget was applied.
        options: the task's own settings.
        network: what a user says of the networks' images: all of it without a data set; see `Network` of the settings.
        network_source: who says so, in words.
        test_split: which of a folder's splits is its test split; "": the reader chooses.
        held_out: how the images are made that the student is judged on; nothing where there are test images.
        calibration_key: a hash of the real images without labels that are given.
        code: hashes of the method's own file, and of a network and a task that are not ours. They are in the key
            although the fingerprint of the code covers more than them: whoever edits a method, or a network or task
            of their own, asks for another trial, and the results of both versions stay.
        init_pool_key: a hash of the images that the pool starts with.
        data_root, init_pool, calibration, plugins: where the data, those images and the files to be loaded lie.
        order: position of the method in the suite.
        keep_pool: whether the images are kept.
        setting: what heads the tables.
        case: name of the one of the task's cases that this is, which says what its options do.
        case_order, case_title: its position, and the heading of the column of cases.
    """

    task: str
    dataset: str
    data: str
    image_size: int | None
    teacher: str
    teacher_key: str
    student: str
    method: str
    seed: int
    budget: str = field(metadata=BESIDE_THE_KEY)
    schedule: dict[str, Any]
    evaluate_every: int
    evaluate_on: str
    precision: str
    device: str
    data_root: str | None = field(metadata=BESIDE_THE_KEY)
    order: int = field(metadata=BESIDE_THE_KEY)
    keep_pool: bool = field(metadata=BESIDE_THE_KEY)
    setting: str = field(metadata=BESIDE_THE_KEY)
    options: dict[str, Any] = field(default_factory=dict)
    case: str = field(default="", metadata=BESIDE_THE_KEY)
    case_order: int = field(default=0, metadata=BESIDE_THE_KEY)
    case_title: str = field(default="", metadata=BESIDE_THE_KEY)
    code: str = ""
    plugins: tuple[str, ...] = field(default=(), metadata=BESIDE_THE_KEY)
    init_pool: str = field(default="", metadata=BESIDE_THE_KEY)
    init_pool_key: str = ""
    network: dict[str, Any] = field(default_factory=dict, metadata=IN_KEY_IF_SET)
    network_source: str = field(default="", metadata=BESIDE_THE_KEY)
    held_out: dict[str, Any] = field(default_factory=dict, metadata=IN_KEY_IF_SET)
    calibration: str = field(default="", metadata=BESIDE_THE_KEY)
    calibration_key: str = field(default="", metadata=IN_KEY_IF_SET)
    test_split: str = field(default="", metadata=IN_KEY_IF_SET)

    def settings(self) -> dict[str, Any]:
        return asdict(self)

    @cached_property
    def key(self) -> str:
        """Hash all that can change the numbers of what was asked for: 12 hex digits.

        The version of rgal is not in it, so that a release orphans no result: which code answered is told by the
        fingerprint in the record (`rgal.suite.plan.fingerprint`).
        """
        wanted = {f.name: f.metadata.get("in_key", True) for f in fields(self)}
        asked = {
            name: getattr(self, name)
            for name, when in wanted.items()
            if when and (when != IN_KEY_IF_SET["in_key"] or getattr(self, name))
        }
        return short_hash({**asked, "device": self.device.partition(":")[0]})

    @property
    def name(self) -> str:
        nets = [self.teacher] if self.student == self.teacher else [self.teacher, self.student]
        parts = [self.task, self.dataset, *nets, self.case, self.method, f"s{self.seed}"]
        return slug("-".join(part for part in parts if part))

    @property
    def title(self) -> str:
        """`w4a4 cmi seed 0`"""
        return " ".join(part for part in (self.case, self.method, f"seed {self.seed}") if part)

    def seed_parts(self) -> tuple[object, ...]:
        """What random streams depend on. The method is not in it: methods are compared on common draws."""
        return (self.task, self.dataset, self.teacher, self.student, self.seed)


def short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
