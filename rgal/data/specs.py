"""Properties of data sets by name: normalisation, classes, whether a mirrored image keeps its label."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int | None = None
    flip: bool = True


# The constants with which the official releases normalise (CMI registry.py), so that published teachers fit.
PROPERTIES = {
    "cifar10": Properties((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 10),
    "cifar100": Properties((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), 100),
    "digits": Properties((0.3053,), (0.3758,), 10, flip=False),  # measured on its training split
    "mnist": Properties((0.1307,), (0.3081,), 10, flip=False),
    "svhn": Properties((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 10, flip=False),
}
IMAGENET = Properties((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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
        return Properties(source.mean or grey, source.std or grey, flip=source.flip)
    if name.startswith(("imagenet", "tiny_imagenet")):
        return IMAGENET
    return Properties((0.5,) * channels, (0.5,) * channels)


def data_spec(name: str, decoded: Decoded) -> DataSpec:
    """Describe a data set that was decoded under a name.

    Raises:
        UserError: a data set of this name has other classes or channels.
    """
    channels, height, width = decoded.train.images.shape[1:]
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
        crop_padding=min(height, width) // 8,  # 4 at 32 pixels, as everyone has it; 1 at 8
        class_names=decoded.class_names,
        fingerprint=decoded.fingerprint,
        encoding=decoded.encoding,
    )
