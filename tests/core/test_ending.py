"""Every way a command can end: one line, an exit code, and the former handlers back in place."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rgal.core.ending import Terminated, exit_code_of, guarded, handling, printable, stop_signals


def broken() -> int:
    raise ZeroDivisionError("of a number\nby nothing")


def test_an_unforeseen_error_is_one_line_and_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert guarded(broken) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: ZeroDivisionError: of a number. This is a fault of rgal; its traceback is in "
    )
    text = Path(line.rpartition(" in ")[2]).read_text(encoding="utf-8")
    assert "in broken" in text and "by nothing" in text


def test_an_unforeseen_error_where_no_file_can_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert guarded(broken) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("ZeroDivisionError: of a number by nothing")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_signals_end_in_one_line(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed() -> int:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal did not arrive")

    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    own = signal.signal(number, usual)  # a shell may have started the tests with it ignored
    try:
        before = [signal.getsignal(each) for each in stop_signals()]
        assert guarded(killed) == code == exit_code_of(number)
        assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
        assert [signal.getsignal(each) for each in stop_signals()] == before
    finally:
        signal.signal(number, own)


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in stop_signals()

        def hung_up() -> int:
            os.kill(os.getpid(), signal.SIGHUP)
            return 0

        assert guarded(hung_up) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_handles_nothing_and_fails_at_nothing() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(guarded(lambda: 3)))
    thread.start()
    thread.join()
    assert codes == [3]


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), handling(lambda *_: None, (signal.SIGTERM,)):
        os.kill(os.getpid(), signal.SIGTERM)  # handled
        raise Terminated
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_an_encoding_lacks_is_a_question_mark() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    printable(stream)
    print("12.5 ± 0.1 →", file=stream, flush=True)
    assert stream.buffer.getvalue() == b"12.5 ? 0.1 ?\n"  # type: ignore[attr-defined]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_standard_output_is_said() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "rgal.cli", "--list", "suites"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: standard output cannot be written: [^\n]+\n", ended.stderr)
