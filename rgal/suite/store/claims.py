"""Claims: who works on what in a results directory that any number of runners share.

A claim is a small file, `.claims/NAME.N`, for the N-th attempt at a trial, a teacher or another piece of work. Whoever
creates the file, which one process alone can, holds the claim, and rewrites it as a heartbeat; whoever looks at it goes
by its own clock: a claim that has not changed for `lapse_seconds()` is that of a dead owner, and so is one of a process
of this machine that is gone. It is taken over by the file N + 1, which is created before N is deleted. Of two that
exist at a moment the lower is void. An owner finds its file gone, then, and must write no more. No locks of the file
system are used, and no two clocks are compared.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from rgal.core.errors import UserError
from rgal.core.files import writing_only_if
from rgal.core.variables import seconds_of

FOLDER = ".claims"
LAPSE = "RGAL_LAPSE_SECONDS"
SIZE = 2048  # bytes of a claim: always the same, so that a heartbeat takes no room on a full disk
LONGEST = 100  # characters of a text in it
LEAST_SECONDS = 1.0  # between two heartbeats
LOOK_SECONDS = 0.5  # between two looks at a claim that is waited for


class ClaimLost(BaseException):
    """Another process has taken over what this one worked on. Not an `Exception`: nobody between may go on."""


def lapse_seconds() -> float:
    """Return after how many seconds without a heartbeat an owner is taken for dead: 120, or RGAL_LAPSE_SECONDS.

    Raises:
        UserError: the variable holds something else than a number from 1 on.
    """
    return seconds_of(LAPSE, 120.0, 1.0)


@dataclass(frozen=True)
class Owner:
    """Who holds a claim, and how far it is.

    Attributes:
        machine: what tells this machine from others that have its name.
        born: when the process started, in ticks of its machine; a later process may have its number.
        done: share of the work that is done, or None before anything is known.
        said: how far it is, in words.
        at: when it last gave a sign of life, in UTC by its own clock: for people.
    """

    token: str
    host: str
    machine: str
    pid: int
    born: str
    title: str
    device: str = ""
    done: float | None = None
    said: str = ""
    at: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Seen:
    """What a claim was like at a moment. number: of the attempt; 0: nobody had claimed it."""

    number: int = 0
    content: bytes = b""

    @property
    def owner(self) -> Owner | None:
        """Who holds it; None while its file is half written, or if it is none of ours."""
        try:
            told = json.loads(self.content)
            values = {name: told[name] for name in Owner.__dataclass_fields__}
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        number = {"pid": int, "done": float | int | None}
        right = all(isinstance(value, number.get(name, str)) for name, value in values.items())
        return Owner(**values) if right else None


@dataclass
class Claim:
    """A claim that this process holds, or is to hold in the place of the process that acquired it for it."""

    path: Path
    owner: Owner
    lost: bool = False
    _beats: int = 0
    _next: float = 0.0
    _writing: Any = field(default_factory=threading.Lock, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "owner": self.owner,
            "lost": self.lost,
            "_beats": self._beats,
            "_next": 0.0,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _writing=threading.Lock())

    def check(self) -> None:
        """Raise ClaimLost unless this claim is still ours. The file is opened, which network file systems answer by
        what is true and not by what they remember.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            content = b""
        # An owner's token is the first thing in its file: it stands there while the rest is being written.
        if self.owner.token.encode() not in content:
            self.lost = True
            raise ClaimLost(self.path.name)

    def beat(self, done: float | None = None, said: str = "", now: bool = False) -> None:
        """Show that the owner is alive, and how far it is; at most once a second unless `now`.

        Args:
            done: the share that is done.
            said: the same in words.
            now: whether to write in any case.
        """
        with self._writing:
            if done is not None:
                self.owner = replace(self.owner, done=done, said=said[:LONGEST])
            if self.lost or (not now and time.monotonic() < self._next):
                return
            self._next = time.monotonic() + LEAST_SECONDS
            try:
                self.check()
                self._beats += 1
                with open(self.path, "r+b", buffering=0) as file:
                    file.write(_text(self.owner, self._beats))
            except (ClaimLost, FileNotFoundError):
                self.lost = True
            except OSError:
                pass  # the file system is away for a while: the next heartbeat tells

    def release(self) -> None:
        """Give the claim back, if it is still ours."""
        with suppress(ClaimLost, OSError):
            self.check()
            self.path.unlink()

    @contextmanager
    def kept(self, device: str = "") -> Iterator[None]:
        """Own the claim in this process during the block, with a heartbeat of its own; give it back at the end. What
        is written in the block is written only while the claim is ours.

        Args:
            device: where the work is done, for people.

        Raises:
            ClaimLost: it was taken over, before the block or in it.
        """
        self.check()
        self.owner = replace(self.owner, **_ourselves(), device=device)
        self.beat(now=True)
        if self.lost:
            raise ClaimLost(self.path.name)
        over = threading.Event()

        def tick() -> None:
            while not over.wait(lapse_seconds() / 12):
                self.beat(now=True)

        heart = threading.Thread(target=tick, name="heartbeat", daemon=True)
        heart.start()
        try:
            with writing_only_if(self.check):
                yield
        finally:
            over.set()
            heart.join()
            self.release()


class Claims:
    """The claims of a results directory, as one process sees them.

    Args:
        root: the results directory.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER
        self._since: dict[str, tuple[Seen, float]] = {}

    def look(self) -> dict[str, Seen]:
        """Return what stands now, by name; what nobody has claimed is missing."""
        latest: dict[str, Seen] = {}
        for name, number in self._numbers():
            if number > latest.get(name, Seen()).number:
                with suppress(OSError):  # it was given back this moment
                    latest[name] = Seen(number, self._path(name, number).read_bytes())
        return latest

    def is_free(self, name: str, seen: Seen) -> bool:
        """Tell whether nobody who lives holds a claim. It takes several looks to know that an owner of another machine
        is dead.
        """
        if seen.number == 0:
            self._since.pop(name, None)
            return True
        before, since = self._since.get(name, (None, 0.0))
        if before != seen:
            self._since[name] = (seen, time.monotonic())
        elif time.monotonic() - since >= lapse_seconds():
            return True
        owner = seen.owner
        return owner is not None and is_dead(owner)

    def acquire(self, name: str, seen: Seen, title: str) -> Claim | None:
        """Claim a piece of work that was seen to be free.

        Args:
            name: of the work.
            seen: what its claim was when it was found free.
            title: of the work, for people.

        Returns:
            The claim, or None if somebody was faster.
        """
        if self.look().get(name, Seen()) != seen:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(name, seen.number + 1)
        owner = Owner(secrets.token_hex(8), title=title[:LONGEST], **_ourselves())
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return None
        try:
            with open(descriptor, "wb", buffering=0) as file:
                file.write(_text(owner, 0))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return Claim(path, owner) if self._is_latest(name, path) else None

    @contextmanager
    def held(
        self, name: str, title: str, waiting: Callable[[Owner | None], None] = lambda _: None
    ) -> Iterator[None]:
        """Hold a claim during the block; wait for it as long as somebody who lives has it.

        Args:
            name, title: of the work.
            waiting: told once who has it.
        """
        told = False
        while True:
            seen = self.look().get(name, Seen())
            if self.is_free(name, seen) and (claim := self.acquire(name, seen, title)):
                break
            if not told:
                waiting(seen.owner)
                told = True
            time.sleep(LOOK_SECONDS)
        try:
            with claim.kept():
                yield
        except ClaimLost as lost:
            raise UserError(
                f"{title}: taken over by another process, because this one gave no sign of life for "
                f"{lapse_seconds():g} s"
            ) from lost

    def try_to_claim(self, name: str, title: str) -> Claim | None:
        """Claim a piece of work if it is free at this moment."""
        seen = self.look().get(name, Seen())
        return self.acquire(name, seen, title) if self.is_free(name, seen) else None

    def remove_dead(self) -> None:
        """Delete the claims of processes of this machine that are gone."""
        for name, seen in self.look().items():
            owner = seen.owner
            if owner is not None and is_dead(owner) and (claim := self.acquire(name, seen, owner.title)):
                claim.release()

    def _is_latest(self, name: str, path: Path) -> bool:
        """Delete what a new claim supersedes; give it up if there is a later one."""
        number = int(path.name.rpartition(".")[2])
        others = [other for one, other in self._numbers() if one == name and other != number]
        for other in others:
            if other < number:
                self._path(name, other).unlink(missing_ok=True)
        if any(other > number for other in others):
            path.unlink(missing_ok=True)
            return False
        return True

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}.{number}"

    def _numbers(self) -> Iterator[tuple[str, int]]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        for text in names:
            name, _, number = text.rpartition(".")
            if name and number.isascii() and number.isdigit() and len(number) < 10:
                yield name, int(number)


def is_dead(owner: Owner) -> bool:
    """Tell whether an owner was a process of this machine that is gone; of other machines nothing is known."""
    if owner.machine != this_machine():
        return False
    return _born(owner.pid) != owner.born


def _text(owner: Owner, beats: int) -> bytes:
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    told: Mapping[str, Any] = {**owner.__dict__, "at": at, "beats": beats}
    return json.dumps(told, ensure_ascii=False).encode(errors="replace").ljust(SIZE) + b"\n"


def _ourselves() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname()[:60], "machine": this_machine(), "pid": pid, "born": _born(pid)}


@cache
def this_machine() -> str:
    """Name this machine, and its space of process numbers: containers of one machine have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{uuid.getnode():x}"


def _born(pid: int) -> str:
    """Return when a process started, in ticks; "" if there is none or it has ended, "unknown" if it cannot be told."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
        return "unknown" if _answers(pid) else ""
    except OSError:
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
