"""A network's images, described by a person."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rgal.core.domain import (
    GUESS,
    NORMALISATIONS,
    describe_domain,
    domain_text,
    image_shape,
    normalisation,
)
from rgal.core.errors import UserError
from rgal.core.problem import Problem
from rgal.data import load
from tests.helpers import small


def test_a_problem_needs_no_data_set() -> None:
    domain = describe_domain((3, 48, 40), 7, normalisation([0.485, 0.456, 0.406], [0.2]), flip=False)
    assert (domain.shape, domain.classes, domain.flip) == ((3, 48, 40), 7, False)
    assert domain.std == (0.2, 0.2, 0.2) and domain.crop_padding == 5 and domain.source == "as given"
    problem = Problem(small.student(small.GREY), domain)
    assert not any(p.requires_grad for p in problem.teacher.parameters())


def test_names_mean_what_data_sets_of_that_name_have() -> None:
    assert describe_domain("3x32x32", 10, normalisation(name="cifar10")).mean == (0.4914, 0.4822, 0.4465)
    plain = describe_domain("1x8x8", 10, normalisation(name="none"))
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(plain.normalise(images), images)
    assert set(NORMALISATIONS) == {"imagenet", "cifar10", "none"}


def test_what_nobody_says_is_a_guess_and_called_one() -> None:
    guessed = describe_domain("3x8x8", 4)
    assert guessed.mean == guessed.std == (0.5, 0.5, 0.5)
    assert GUESS in domain_text(guessed) and GUESS not in domain_text(
        describe_domain("3x8x8", 4, NORMALISATIONS["none"])
    )


def test_a_data_set_says_whose_numbers_it_has() -> None:
    assert domain_text(load("digits").spec.domain) == (
        "images 1x8x8, 10 classes, mean 0.3053, std 0.3758 (those of data set 'digits'); images are not mirrored"
    )


@pytest.mark.parametrize(
    ("image", "classes", "normalised", "words"),
    [
        ("48x48", 7, {}, "image '48x48': expected channels x height x width"),
        ("4x48x48", 7, {}, "with 1 or 3 channels"),
        ("3x0x48", 7, {}, "such as 3x48x48"),
        ("3x48x48", 1, {}, "classes 1: expected a whole number from 2 on"),
        ("3x48x48", 7, {"mean": [0.5, 0.5], "std": [0.5]}, "found 2 numbers, expected 3"),
        ("3x48x48", 7, {"mean": [0.5]}, "mean is given without std"),
        ("3x48x48", 7, {"std": [0.5]}, "std is given without mean"),
        ("3x48x48", 7, {"mean": [123.7], "std": [58.4]}, "divided by 255"),
        ("3x48x48", 7, {"mean": [0.5], "std": [0.0]}, "std 0: expected a number above 0"),
        ("3x48x48", 7, {"mean": [float("nan")], "std": [0.5]}, "mean nan"),
        ("3x48x48", 7, {"name": "imagnet"}, "did you mean 'imagenet'?"),
        ("3x48x48", 7, {"name": "none", "mean": [0.5]}, "expected one or the other"),
        ("1x8x8", 7, {"name": "imagenet"}, "found 3 numbers, expected 1"),
    ],
)
def test_faults_are_a_line(image: str, classes: int, normalised: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as raised:
        describe_domain(image, classes, normalisation(**normalised))
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_shapes_are_read_as_people_write_them() -> None:
    assert image_shape("3X48×64") == image_shape([3, 48, 64]) == (3, 48, 64)
