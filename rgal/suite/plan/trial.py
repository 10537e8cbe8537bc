"""A trial: task x setting x method x seed x budget, resolved completely before it runs; and its key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rgal import __version__
from rgal.core.files import slug


@dataclass(frozen=True)
class Trial:
    """All that can change a trial's numbers, and (not part of the key) where things lie on this machine.

    data: fingerprint of the images. teacher_key: names the trained or given teacher. rounds, student, synthesis_lr:
    the schedule after the budget was applied. options: the task's own settings; case: the name of the one of its cases
    that this is. order: position of the method in the suite, for tables. setting: the tables' heading. code: hashes of
    the method's own file, and of networks' that plug-ins brought. plugins: files that must be loaded for it. init_pool:
    the images that its pool starts with; init_pool_key: a hash of them.
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
    budget: str
    schedule: dict[str, Any]
    evaluate_every: int
    evaluate_on: str
    precision: str
    device: str
    data_root: str | None
    order: int
    keep_pool: bool
    setting: str
    options: dict[str, Any] = field(default_factory=dict)
    case: str = ""
    case_order: int = 0
    case_title: str = ""
    code: str = ""
    plugins: tuple[str, ...] = ()
    init_pool: str = ""
    init_pool_key: str = ""

    # What changes no number. The name of a case says what its options do.
    PLACE = (
        "data_root",
        "order",
        "budget",
        "keep_pool",
        "setting",
        "case",
        "case_order",
        "case_title",
        "plugins",
        "init_pool",
    )
    # Left out of the key while empty, so that trials without them keep theirs.
    OPTIONAL = ("init_pool_key",)

    def settings(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def key(self) -> str:
        """12 hex digits over everything that can change the numbers, the version of rgal included."""
        relevant = {
            k: v for k, v in self.settings().items() if k not in self.PLACE and (v or k not in self.OPTIONAL)
        }
        relevant["device"] = self.device.partition(":")[0]
        return short_hash({"version": __version__, **relevant})

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
