"""Slow, obvious versions of the class-incremental metrics: loops over phases and tasks, one formula a function.

Written from the formulas. `images[t]` lists (task, right) for every single test image seen after phase t.
"""

from __future__ import annotations

from fractions import Fraction

Images = list[list[tuple[int, bool]]]


def images_of(counts: list[list[tuple[int, int]]]) -> Images:
    """Each count (correct, total) as single images."""
    images: Images = []
    for row in counts:
        images.append([])
        for task, (correct, total) in enumerate(row):
            for number in range(total):
                images[-1].append((task, number < correct))
    return images


def share(images: list[tuple[int, bool]], tasks: list[int]) -> Fraction:
    """Percent of the images of these tasks that are right."""
    right = [was_right for task, was_right in images if task in tasks]
    return Fraction(100 * sum(right), len(right))


def cell(images: Images, phase: int, task: int) -> Fraction:
    return share(images[phase], [task])


def accuracy(images: Images, phase: int) -> Fraction:
    return share(images[phase], list(range(phase + 1)))


def average_incremental(images: Images, with_base: bool) -> Fraction:
    total, number = Fraction(0), 0
    for phase in range(len(images)):
        if phase > 0 or with_base:
            total += accuracy(images, phase)
            number += 1
    return total / number


def task_mean(images: Images, phase: int) -> Fraction:
    total = Fraction(0)
    for task in range(phase + 1):
        total += cell(images, phase, task)
    return total / (phase + 1)


def forgetting(images: Images) -> Fraction:
    increments = len(images) - 1
    total = Fraction(0)
    for task in range(increments):
        best = cell(images, task, task)
        for phase in range(task, increments):  # the last phase is not a candidate
            if cell(images, phase, task) > best:
                best = cell(images, phase, task)
        total += best - cell(images, increments, task)
    return total / increments


def initial_forgetting(images: Images) -> Fraction:
    increments = len(images) - 1
    total = Fraction(0)
    for task in range(increments):
        total += cell(images, task, task) - cell(images, increments, task)
    return total / increments


def backward_transfer(images: Images) -> Fraction:
    increments = len(images) - 1
    total = Fraction(0)
    for task in range(increments):
        total += cell(images, increments, task) - cell(images, task, task)
    return total / increments


def old(images: Images, phase: int) -> Fraction:
    return share(images[phase], list(range(phase)))


def new(images: Images, phase: int) -> Fraction:
    return share(images[phase], [phase])
