"""What is known about data sets by name: normalisation, classes, whether a mirror image keeps its label."""

from __future__ import annotations

from dataclasses import dataclass

from rgal.core.errors import UserError
from rgal.data.dataset import DataSpec, Decoded
from rgal.data.sources import added


@dataclass(frozen=True)
class Known:
    """Statistics per channel of pixels in [0, 1]; `classes` None where subsets of any size share the name."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int | None = None
    flip: bool = True


# The constants the official releases normalise with (CMI registry.py), so that published teachers fit.
KNOWN = {
    "cifar10": Known((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 10),
    "cifar100": Known((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), 100),
    "digits": Known((0.3053,), (0.3758,), 10, flip=False),  # measured on its training split
    "mnist": Known((0.1307,), (0.3081,), 10, flip=False),
    "svhn": Known((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 10, flip=False),
}
IMAGENET = Known((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def known(name: str, channels: int) -> Known:
    """What is known of `name`: its row, what its plug-in says, ImageNet's for imagenet* and tiny_imagenet*, or 0.5 per
    channel."""
    if name in KNOWN:
        return KNOWN[name]
    if name in added():
        source = added()[name]
        grey = (0.5,) * channels
        return Known(source.mean or grey, source.std or grey, flip=source.flip)
    if name.startswith(("imagenet", "tiny_imagenet")):
        return IMAGENET
    return Known((0.5,) * channels, (0.5,) * channels)


def data_spec(name: str, decoded: Decoded) -> DataSpec:
    """Describe what was decoded under `name`. UserError if the name promises other classes or channels."""
    channels, height, width = decoded.train.images.shape[1:]
    entry, classes = known(name, channels), len(decoded.class_names)
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
