"""Claims: one holder at a time, heartbeats, take-over of the dead, and nothing written once a claim is lost."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rgal.core.errors import UserError
from rgal.core.files import write_atomically
from rgal.suite.store import claims as module
from rgal.suite.store import rendering as drawing
from rgal.suite.store.claims import Claim, ClaimLost, Claims, Seen, is_dead, lapse_seconds
from rgal.suite.store.folders import Metrics
from rgal.suite.store.rendering import rendering


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.LAPSE, "1")
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(drawing, "LOOK_SECONDS", 0.1)


def claimed(root: Path, name: str = "t") -> Claim:
    claim = Claims(root).try_to_claim(name, "a trial")
    assert claim is not None
    return claim


def from_elsewhere(claim: Claim) -> None:
    """Let a claim look as if another machine held it."""
    told = json.loads(claim.path.read_text()) | {"machine": "another", "pid": 1}
    claim.path.write_text(json.dumps(told))


def test_one_of_many_gets_it(tmp_path: Path) -> None:
    """Twenty threads that start together, each with a view of its own; three names."""
    got: list[str] = []
    start = threading.Barrier(20)

    def try_all() -> None:
        mine = Claims(tmp_path)
        start.wait()
        for name in ("a", "b.c", "d"):
            if mine.try_to_claim(name, ""):
                got.append(name)

    threads = [threading.Thread(target=try_all) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["a", "b.c", "d"]


def test_a_released_claim_is_free_and_leaves_nothing(tmp_path: Path) -> None:
    claim, others = claimed(tmp_path), Claims(tmp_path)
    assert others.try_to_claim("t", "") is None
    claim.release()
    assert not list((tmp_path / ".claims").iterdir())
    assert others.try_to_claim("t", "") is not None


def test_a_silent_owner_elsewhere_is_dead_after_a_while_of_the_watcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of who watches, whatever times the files have."""
    claim, now = claimed(tmp_path), [100.0]
    from_elsewhere(claim)
    os.utime(claim.path, (0, 0))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watcher = Claims(tmp_path)
    assert watcher.try_to_claim("t", "") is None
    now[0] += 0.9
    assert watcher.try_to_claim("t", "") is None
    claim.path.write_text(claim.path.read_text() + " ")  # a sign of life
    now[0] += 0.9
    assert watcher.try_to_claim("t", "") is None
    now[0] += 1.0
    taken = watcher.try_to_claim("t", "")
    assert taken is not None and taken.path.name == "t.2"
    assert [path.name for path in (tmp_path / ".claims").iterdir()] == ["t.2"]
    with pytest.raises(ClaimLost):
        claim.check()
    claim.release()
    taken.check()


def test_of_two_who_take_over_one_does(tmp_path: Path) -> None:
    claim = claimed(tmp_path)
    from_elsewhere(claim)
    first, second = Claims(tmp_path), Claims(tmp_path)
    seen = first.look()["t"]
    assert first.acquire("t", seen, "") is not None
    assert second.acquire("t", seen, "") is None


def test_the_later_attempt_wins_whoever_looked_first(tmp_path: Path) -> None:
    """A watcher that slept between its look and its claim meets one who has begun to count anew."""
    early = claimed(tmp_path)
    late = Claims(tmp_path)
    late.look = lambda: {"t": Seen(7, b"old")}  # type: ignore[method-assign]
    claim = late.acquire("t", Seen(7, b"old"), "")
    assert claim is not None and claim.path.name == "t.8"
    with pytest.raises(ClaimLost):
        early.check()
    blind = Claims(tmp_path)
    blind.look = dict  # type: ignore[method-assign]
    assert blind.acquire("t", Seen(), "") is None
    claim.check()
    assert [path.name for path in (tmp_path / ".claims").iterdir()] == ["t.8"]


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from rgal.suite.store.claims import Claims\n"
        "Claims(Path(sys.argv[1])).try_to_claim('t', 'x'); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    others = Claims(tmp_path)
    assert others.try_to_claim("t", "") is None
    holder.send_signal(signal.SIGKILL)
    while (owner := others.look()["t"].owner) and not is_dead(owner):  # a zombie counts as dead
        time.sleep(0.01)
    assert others.try_to_claim("t", "") is not None
    holder.wait()


def test_a_later_process_with_the_same_number_is_another(tmp_path: Path) -> None:
    owner = claimed(tmp_path).owner
    assert not is_dead(owner)
    assert is_dead(replace(owner, born="1")) and not is_dead(replace(owner, machine="another", born="1"))


def test_the_heart_beats_without_reports(tmp_path: Path) -> None:
    claim, watcher = claimed(tmp_path), Claims(tmp_path)
    with claim.kept("cuda:1"):
        before = watcher.look()["t"]
        claim.beat(0.25, "round 1/4", now=True)
        after = watcher.look()["t"]
        assert after != before and after.owner is not None
        assert (after.owner.done, after.owner.said, after.owner.device) == (0.25, "round 1/4", "cuda:1")
        assert len(after.content) == len(before.content)  # takes no room on a full disk
        deadline = time.monotonic() + 20
        while watcher.look()["t"] == after and time.monotonic() < deadline:
            time.sleep(0.05)
        assert watcher.look()["t"] != after
    assert not watcher.look()


def test_it_is_handed_to_a_worker(tmp_path: Path) -> None:
    claim = pickle.loads(pickle.dumps(claimed(tmp_path)))
    with claim.kept():
        assert Claims(tmp_path).try_to_claim("t", "") is None
    assert not Claims(tmp_path).look()


def test_who_lost_its_claim_writes_nothing(tmp_path: Path) -> None:
    """Files that are replaced keep what they have; rows are not appended; what is half written disappears."""
    claim, file, rows = claimed(tmp_path), tmp_path / "result.json", Metrics(tmp_path / "metrics.jsonl")
    with pytest.raises(ClaimLost), claim.kept():
        write_atomically(file, b"mine")
        rows.append([{"a": 1}])
        claim.path.unlink()  # taken over
        for write in (
            lambda: write_atomically(file, b"no more"),
            lambda: rows.append([{"a": 2}]),
            lambda: rows.truncate(0),
        ):
            with pytest.raises(ClaimLost):
                write()
        claim.check()
    assert file.read_bytes() == b"mine" and rows.rows() == [{"a": 1}]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".claims", "metrics.jsonl", "result.json"]
    write_atomically(file, b"outside of the block")


def test_a_file_that_was_being_written_does_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, file = claimed(tmp_path), tmp_path / "pool"
    write = Path.write_bytes

    def slow(path: Path, content: Any) -> int:
        claim.path.unlink(missing_ok=True)
        return write(path, content)

    with pytest.raises(ClaimLost), claim.kept():
        monkeypatch.setattr(Path, "write_bytes", slow)
        write_atomically(file, b"late")
    assert [path.name for path in tmp_path.iterdir()] == [".claims"]


@pytest.mark.parametrize("text", ["", "two", "nan", "inf", "0", "-5"])
def test_nonsense_for_the_lapse_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.LAPSE, text)
    with pytest.raises(UserError, match="expected seconds"):
        lapse_seconds()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"token": 3}', b"\xff\xfe", b"[" * 5000])
def test_any_content_is_somebodys(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of a claim that is being written this moment. It lapses like others."""
    folder = tmp_path / ".claims"
    folder.mkdir()
    (folder / "t.3").write_bytes(content)
    for stray in ("t.x", "noise", "t.99999999999999999999", ".hidden"):
        (folder / stray).write_text("")
    watcher = Claims(tmp_path)
    assert watcher.look() == {"t": Seen(3, content)} and watcher.look()["t"].owner is None
    assert watcher.try_to_claim("t", "") is None
    later = time.monotonic() + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert watcher.try_to_claim("t", "") is not None


def test_one_of_those_that_end_together_renders(tmp_path: Path) -> None:
    """Whoever comes while another renders the same may be needed: that one may have missed the last result. Who comes
    after a rendering that began later is not.
    """
    (tmp_path / "trials").mkdir()
    rendered: list[bool] = []
    start = threading.Barrier(8)

    def end() -> None:
        start.wait()
        with rendering(tmp_path, "the same") as is_ours:
            rendered.append(is_ours)
            time.sleep(0.5 if is_ours else 0)

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rendered) == 8 and sum(rendered) in (1, 2), rendered
    with rendering(tmp_path, "the same") as is_ours:
        assert is_ours


def test_rendering_of_something_else_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    seen = []

    def other() -> None:
        with rendering(tmp_path, "other") as is_ours:
            seen.append(is_ours)

    with rendering(tmp_path, "one"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
    thread.join()
    assert seen == [True]
