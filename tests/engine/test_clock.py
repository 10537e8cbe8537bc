"""Seconds are booked under the kind of step in which they passed, beside a clock that is moved by hand."""

from __future__ import annotations

import pytest
import torch

from rgal.engine.clock import Clock


class Hand:
    """A clock that shows what it is set to, in place of `time.perf_counter`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    made = Hand()
    monkeypatch.setattr("time.perf_counter", made)
    return made


def test_seconds_are_booked_by_mode(hand: Hand) -> None:
    clock = Clock(torch.device("cpu"))
    clock.start()
    hand.now += 2
    clock.lap("synthesis")
    hand.now += 3
    clock.lap("student")
    hand.now += 4
    clock.lap("synthesis")
    assert clock.seconds == {"synthesis": 6.0, "student": 3.0}


def test_nothing_is_booked_while_the_clock_is_stopped(hand: Hand) -> None:
    clock = Clock(torch.device("cpu"))
    hand.now += 1
    clock.lap("synthesis")
    clock.start()
    hand.now += 2
    clock.stop()
    hand.now += 4
    clock.lap("student")
    assert clock.seconds == {"synthesis": 0.0, "student": 0.0} == clock.spent("student")


def test_a_second_start_does_not_lose_time(hand: Hand) -> None:
    clock = Clock(torch.device("cpu"))
    clock.start()
    hand.now += 2
    clock.start()
    hand.now += 1
    clock.lap("student")
    assert clock.seconds["student"] == 3.0


def test_spent_adds_the_current_lap_without_booking_it(hand: Hand) -> None:
    clock = Clock(torch.device("cpu"))
    clock.start()
    hand.now += 2
    clock.lap("synthesis")
    hand.now += 5
    assert clock.spent("student") == {"synthesis": 2.0, "student": 5.0}
    assert clock.spent("synthesis") == {"synthesis": 7.0, "student": 0.0}
    assert clock.seconds == {"synthesis": 2.0, "student": 0.0}


@pytest.mark.parametrize(("device", "synchronised"), [("cpu", 0), ("cuda", 1)])
def test_only_a_gpu_is_synchronised(
    device: str, synchronised: int, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", calls.append)
    clock = Clock(torch.device(device))
    clock.lap("student")  # stopped: nothing to measure
    clock.start()
    clock.spent("student")
    clock.lap("student")
    assert len(calls) == synchronised


def test_seconds_of_the_processor_are_booked_beside(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that share the machine with another trial: 3 seconds of the clock, 5 of the processor."""
    processor = Hand()
    monkeypatch.setattr("time.process_time", processor)
    clock = Clock(torch.device("cpu"))
    processor.now += 7
    clock.start()
    hand.now, processor.now = hand.now + 3, processor.now + 5
    clock.lap("student")
    costs = {
        "synthesis_seconds": 0.0,
        "student_seconds": 3.0,
        "synthesis_cpu_seconds": 0.0,
        "student_cpu_seconds": 5.0,
    }
    assert clock.costs() == costs
    other = Clock(torch.device("cpu"))
    other.start()
    other.load_state_dict(clock.state_dict())
    other.lap("student")  # it stands still
    assert other.costs() == costs
    other.load_state_dict({"seconds": {"synthesis": 1.0, "student": 2.0}})
    assert other.cpu_seconds == other.seconds  # all that a run of an earlier version knows
