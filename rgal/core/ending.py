"""How a command ends: its exit codes, the signals that stop it, and what nobody foresaw."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO

from rgal.core.errors import brief, in_short

WRONG_INPUT, UNFORESEEN, INTERRUPTED, TERMINATED, NO_READER = 2, 70, 130, 143, 141

Handler = Callable[[int, FrameType | None], Any]


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived, as `KeyboardInterrupt` is raised on Ctrl-C."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """List the signals that ask this process to stop; a hang-up that `nohup` ignores is none of them.

    >>> signal.SIGTERM in stop_signals()
    True
    """
    hang_up = getattr(signal, "SIGHUP", None)
    heard = hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *((hang_up,) if hang_up is not None and heard else ()))


def exit_code_of(number: int) -> int:
    """Return the exit code of a command that a signal stopped: a hang-up counts as a termination.

    >>> exit_code_of(signal.SIGINT), exit_code_of(signal.SIGTERM)
    (130, 143)
    """
    return INTERRUPTED if number == signal.SIGINT else TERMINATED


@contextmanager
def handling(handler: Handler, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Handle some signals inside the block; elsewhere than in the main thread, where Python forbids it, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit code, whatever becomes of it; say in one line what stopped it.

    An error that nobody foresaw is a fault of rgal: its traceback is kept in a file that the line names.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    later = tuple(number for number in stop_signals() if number != signal.SIGINT)
    try:
        with handling(terminate, later):
            return command()
    except (KeyboardInterrupt, Terminated) as stop:
        say("stopped; the same command goes on from here")
        return INTERRUPTED if isinstance(stop, KeyboardInterrupt) else TERMINATED
    except Exception as error:
        say(f"error: {brief(in_short(error), 150)}. This is a fault of rgal; {_kept(traceback.format_exc())}")
        return UNFORESEEN


def say(line: str) -> None:
    """Print a line to standard error, if anybody can still read it."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def printable(*streams: TextIO) -> None:
    """Let streams whose encoding lacks a character print "?" in its place instead of failing."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _kept(text: str) -> str:
    """Write a traceback to a file and say where it is; where no file can be written, say how it ends."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="rgal-error-", suffix=".txt", delete=False
        ) as file:
            file.write(text)
    except OSError:
        return f"its traceback cannot be kept, and ends with: {' '.join(text.split())[-160:]}"
    return f"its traceback is in {file.name}"
