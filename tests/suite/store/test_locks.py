"""One process a folder: who holds the lock, who died with it, and file systems that have none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from rgal.core.errors import UserError
from rgal.suite.store.folders import Store
from rgal.suite.store.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from rgal.suite.store.folders import Store

with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_message_names_the_holder_whose_lock_dies_with_it(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    for _ in range(2):  # the first try must not spoil what the second one reads
        with (
            pytest.raises(UserError, match=rf"another run is using it \(process {holder.pid}\)"),
            Store(tmp_path).lock(),
        ):
            pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Store(tmp_path).lock():
        assert (tmp_path / ".lock-owner").read_text() == str(os.getpid())
    assert not (tmp_path / ".lock-owner").exists()


def test_it_waits_as_long_as_it_is_told(tmp_path: Path) -> None:
    """Here another part of this process holds it."""
    began = time.monotonic()
    with (
        locked(tmp_path, "trial", busy="busy"),
        pytest.raises(UserError, match="trial"),
        locked(tmp_path, "trial", busy="busy", wait_seconds=0.3),
    ):
        pass
    assert 0.3 <= time.monotonic() - began < 5


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(UserError, match="its file system has no locks") as caught, Store(tmp_path).lock():
        pass
    assert "another run" not in str(caught.value) and "--results" in str(caught.value)


def test_lock_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match="lock file .lock cannot be used"), Store(tmp_path).lock():
        pass


def test_the_command_line_needs_no_fcntl(tmp_path: Path) -> None:
    """As on systems that have none; a lock is then a file that names its owner."""
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "import rgal.cli, rgal.suite.running.runner, rgal.reporting.report\n"
        "with rgal.suite.running.runner.Store(Path(sys.argv[1])).lock(): print('held')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "held\n", done.stderr
