"""Describe the images a network takes by what a person knows of the network. No data set is needed for it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rgal.core.errors import UserError, nearest
from rgal.core.problem import Domain

CHANNELS = (1, 3)
GUESS = "a guess"


@dataclass(frozen=True)
class Normalisation:
    """How pixels in [0,1] are normalised, and who says so.

    Args:
        mean, std: of each channel, or one number for all.
        source: in words, such as "as given"; it begins with `GUESS` where nobody says so.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


# What people usually do, by name.
NORMALISATIONS: Mapping[str, Normalisation] = {
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's"),
    "cifar10": Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), "CIFAR-10's"),
    "none": Normalisation((0.0,), (1.0,), "none: the network takes pixels in [0,1]"),
}
GUESSED = Normalisation((0.5,), (0.5,), f"{GUESS}: --mean and --std, or --normalise, say what is right")


def image_shape(text: str | Sequence[int]) -> tuple[int, int, int]:
    """Read the shape of an image, (channels, height, width), such as 3x48x48.

    Raises:
        UserError: it is none, or one of other channels than 1 or 3.

    >>> image_shape("3x48x64")
    (3, 48, 64)
    """
    given = text if isinstance(text, str) else "x".join(map(str, text))
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})x([0-9]{1,6})", given.strip().lower().replace("×", "x"))
    shape = tuple(map(int, match.groups())) if match else ()
    if len(shape) != 3 or shape[0] not in CHANNELS or min(shape) < 1:
        raise UserError(
            f"image '{given}': expected channels x height x width, such as 3x48x48, with 1 or 3 channels"
        )
    return shape


def normalisation(
    mean: Sequence[float] | None = None, std: Sequence[float] | None = None, name: str | None = None
) -> Normalisation | None:
    """Read how a user says that images are normalised; None if nothing is said.

    Args:
        mean, std: a number for each channel, or one for all, for pixels in [0,1].
        name: one of `NORMALISATIONS` in their place.

    Raises:
        UserError: only one of mean and std is given, both they and a name, a number is out of range, or there is no
            such name.
    """
    if name is not None:
        if mean is not None or std is not None:
            raise UserError(f"normalise {name}: mean and std are given too; expected one or the other")
        if name not in NORMALISATIONS:
            raise UserError(f"normalise '{name}': {nearest(name, NORMALISATIONS)}")
        return NORMALISATIONS[name]
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        there, missing = ("mean", "std") if std is None else ("std", "mean")
        raise UserError(f"{there} is given without {missing}; expected both, a number for each channel")
    for what, values in (("mean", mean), ("std", std)):
        for value in values:
            fits = math.isfinite(value) and (0 <= value <= 1 if what == "mean" else 0 < value <= 1)
            if not fits:
                raise UserError(
                    f"{what} {value:g}: expected a number {'from 0' if what == 'mean' else 'above 0 and up'} to 1, for "
                    "pixels in [0,1]; numbers for pixels up to 255 are divided by 255"
                )
    return Normalisation(tuple(map(float, mean)), tuple(map(float, std)), "as given")


def describe_domain(
    image: str | Sequence[int],
    classes: int,
    normalised: Normalisation | None = None,
    flip: bool = True,
) -> Domain:
    """Describe the images of a network: the domain that a `Problem` holds beside the teacher.

    Args:
        image: (channels, height, width), or text such as 3x48x48.
        classes: number of classes, which is the number of logits.
        normalised: see `normalisation`; None: a guess, and called one.
        flip: whether a mirrored image keeps its label.

    Raises:
        UserError: a number is missing or out of range.

    >>> domain = describe_domain("3x48x48", 7, normalisation([0.5], [0.25]))
    >>> domain.mean, domain.crop_padding, domain.source
    ((0.5, 0.5, 0.5), 6, 'as given')
    """
    shape = image_shape(image)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise UserError(f"classes {classes}: expected a whole number from 2 on")
    given = normalised or GUESSED
    mean, std = (_each_channel(values, shape[0], given.source) for values in (given.mean, given.std))
    return Domain(shape, classes, mean, std, flip, crop_padding(shape), given.source)


def _each_channel(values: tuple[float, ...], channels: int, source: str) -> tuple[float, ...]:
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise UserError(
            f"normalisation ({source}): found {len(values)} numbers, expected {channels}: one for each channel"
        )
    return values


def crop_padding(shape: tuple[int, int, int]) -> int:
    """Return by how many pixels a random crop pads each side: 4 at 32 pixels, as everyone has it, and 1 at 8."""
    return min(shape[1:]) // 8


def domain_text(domain: Domain) -> str:
    """Say in words what images a network takes, and who says so.

    >>> domain_text(describe_domain("1x8x8", 10))[:71]
    'images 1x8x8, 10 classes, mean 0.5, std 0.5 (a guess: --mean and --std,'
    """
    numbers = [" ".join(f"{value:g}" for value in values) for values in (domain.mean, domain.std)]
    mirrored = "a mirrored image keeps its label" if domain.flip else "images are not mirrored"
    source = f" ({domain.source})" if domain.source else ""
    return (
        f"images {'x'.join(map(str, domain.shape))}, {domain.classes} classes, mean {numbers[0]}, std {numbers[1]}"
        f"{source}; {mirrored}"
    )
