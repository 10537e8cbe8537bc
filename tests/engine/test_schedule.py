"""The order of steps beside a list that is written down round by round."""

from __future__ import annotations

from itertools import product

import pytest

from rgal.engine.schedule import Mode, Schedule
from rgal.methods.recipe import Rounds
from tests.helpers import small

SMALL_ROUNDS = [
    (Rounds(count, synthesis, student, warmup=warmup, interleaved=interleaved), synthesises)
    for count, synthesis, student, interleaved, synthesises in product(
        (1, 2, 3), range(5), range(5), (False, True), (True, False)
    )
    for warmup in range(count)
]


def walk(schedule: Schedule) -> list[list[Mode]]:
    """Count every step that is due until all rounds are complete. Returns the steps of each round."""
    order: list[list[Mode]] = []
    while not schedule.finished:
        order.append([])
        while (due := schedule.due()) is not None:
            schedule.count(due)
            order[-1].append(due)
        schedule.close_round()
    return order


def sequence(synthesis: int, student: int, interleaved: bool) -> list[Mode]:
    """List the steps of one round. Interleaved: student step j = 1, 2, ... follows the first synthesis step i for which
    i / synthesis > (j - 1) / student."""
    if not interleaved or not synthesis:
        return ["synthesis"] * synthesis + ["student"] * student
    order: list[Mode] = []
    taken = 0
    for i in range(1, synthesis + 1):
        order.append("synthesis")
        while taken < student and taken / student < i / synthesis:
            order.append("student")
            taken += 1
    return order


@pytest.mark.parametrize("synthesises", [True, False])
@pytest.mark.parametrize("interleaved", [True, False])
def test_steps_come_in_the_listed_order(interleaved: bool, synthesises: bool) -> None:
    for rounds, with_images in SMALL_ROUNDS:
        if rounds.interleaved == interleaved and with_images == synthesises:
            expected = [
                sequence(
                    rounds.synthesis_steps if synthesises else 0,
                    0 if number < rounds.warmup else rounds.student_steps,
                    interleaved,
                )
                for number in range(rounds.count)
            ]
            assert walk(Schedule(rounds, synthesises)) == expected


def test_all_steps_are_counted() -> None:
    for rounds, synthesises in SMALL_ROUNDS:
        schedule = Schedule(rounds, synthesises)
        order = [mode for steps in walk(schedule) for mode in steps]
        assert schedule.steps == {mode: order.count(mode) for mode in ("synthesis", "student")}
        assert schedule.steps["student"] == rounds.total_student_steps()
        assert schedule.finished and schedule.round == rounds.count


def test_the_last_step_of_a_kind_is_the_last_of_its_round() -> None:
    for rounds, synthesises in SMALL_ROUNDS:
        schedule = Schedule(rounds, synthesises)
        while not schedule.finished:
            order: list[Mode] = []
            last: list[bool] = []
            while (due := schedule.due()) is not None:
                order.append(due)
                last.append(schedule.is_last(due))
                schedule.count(due)
            schedule.close_round()
            assert last == [mode not in order[i + 1 :] for i, mode in enumerate(order)]


def test_progress_counts_rounds_and_on_request_steps_inside_them() -> None:
    schedule = Schedule(Rounds(4, synthesis_steps=1, student_steps=5, warmup=2))
    within: list[float] = []
    whole: list[float] = []
    while not schedule.finished:
        while (due := schedule.due()) is not None:
            if due == "student":
                within.append(schedule.progress(within=True).fraction)
                whole.append(schedule.progress().fraction)
            schedule.count(due)
        schedule.close_round()
    assert within == pytest.approx([step / 10 for step in range(10)])
    assert whole == [0.0] * 5 + [0.5] * 5
    assert schedule.progress().round == 4 and schedule.progress().warmup == 2


def test_a_stored_schedule_goes_on_in_the_same_order() -> None:
    for rounds, synthesises in SMALL_ROUNDS:
        if rounds.count < 3:
            continue
        schedule = Schedule(rounds, synthesises)
        for _ in range(4):
            due = schedule.due()
            schedule.close_round() if due is None else schedule.count(due)
        again = Schedule(rounds, synthesises)
        again.load_state_dict(small.reloaded(schedule.state_dict()))
        assert again.state_dict() == schedule.state_dict()
        assert walk(again) == walk(schedule) and again.steps == schedule.steps


def test_a_stored_state_does_not_change_with_the_schedule() -> None:
    schedule = Schedule(Rounds(1, 2, 2))
    state = schedule.state_dict()
    schedule.count("synthesis")
    assert state == {
        "round": 0,
        "done": {"synthesis": 0, "student": 0},
        "steps": {"synthesis": 0, "student": 0},
    }
