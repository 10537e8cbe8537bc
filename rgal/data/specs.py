"""Properties of data sets by name: normalisation, classes, whether a mirrored image keeps its label."""

from __future__ import annotations

from dataclasses import dataclass

from rgal.core.domain import GUESSED, NORMALISATIONS, crop_padding
from rgal.core.errors import UserError
from rgal.data.dataset import DataSpec, Decoded
from rgal.data.sources import added


@dataclass(frozen=True)
class Properties:
    """Describe a data set by what cannot be read from its images.

    Args:
        mean, std: normalisation of each channel, for pixels in [0,1].
        classes: number of classes, or None if subsets of any size share the name.
        flip: whether a mirrored image keeps its label.
        source: who says how images are normalised, in words; "": the name of the data set.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int | None = None
    flip: bool = True
    source: str = ""


# The constants with which the official releases normalise (CMI registry.py), so that published teachers fit.
PROPERTIES = {
    "cifar10": Properties(NORMALISATIONS["cifar10"].mean, NORMALISATIONS["cifar10"].std, 10),
    "cifar100": Properties((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), 100),
    "digits": Properties((0.3053,), (0.3758,), 10, flip=False),  # measured on its training split
    "mnist": Properties((0.1307,), (0.3081,), 10, flip=False),
    "svhn": Properties((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 10, flip=False),
}
IMAGENET = Properties(
    NORMALISATIONS["imagenet"].mean,
    NORMALISATIONS["imagenet"].std,
    source="ImageNet's, by the data set's name",
)


def properties_of(name: str, channels: int) -> Properties:
    """Look up a data set: our table, then plug-ins, then ImageNet's values for imagenet* and tiny_imagenet*.

    Any other name is normalised by 0.5 in each of its channels.

    >>> properties_of("mnist", 1).flip, properties_of("my_scans", 1).mean
    (False, (0.5,))
    """
    if name in PROPERTIES:
        return PROPERTIES[name]
    if name in added():
        source = added()[name]
        grey = (0.5,) * channels
        known = source.mean is not None and source.std is not None
        return Properties(
            source.mean or grey, source.std or grey, flip=source.flip, source="" if known else GUESSED.source
        )
    if name.startswith(("imagenet", "tiny_imagenet")):
        return IMAGENET
    return Properties((0.5,) * channels, (0.5,) * channels, source=GUESSED.source)


def data_spec(name: str, decoded: Decoded) -> DataSpec:
    """Describe a data set that was decoded under a name.

    Raises:
        UserError: a data set of this name has other classes or channels.
    """
    channels, height, width = decoded.parts[0].images.shape[1:]
    entry, classes = properties_of(name, channels), len(decoded.class_names)
    if entry.classes not in (None, classes):
        raise UserError(
            f"data set '{name}': found {classes} classes, expected {entry.classes}; "
            "other data needs another name"
        )
    if not len(entry.mean) == len(entry.std) == channels:
        raise UserError(
            f"data set '{name}': found {channels} channels, expected {len(entry.mean)}; "
            "other data needs another name"
        )
    return DataSpec(
        name=name,
        classes=classes,
        shape=(channels, height, width),
        mean=entry.mean,
        std=entry.std,
        flip=entry.flip,
        crop_padding=crop_padding((channels, height, width)),
        class_names=decoded.class_names,
        fingerprint=decoded.fingerprint,
        encoding=decoded.encoding,
        source=entry.source or f"those of data set '{name}'",
    )
