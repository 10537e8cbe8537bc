"""What timm and torchvision say of the images that their trained networks take. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from rgal.core.domain import Normalisation


@dataclass(frozen=True)
class Preprocessing:
    """What a library's configuration says of the images of a network's published weights.

    Args:
        image: (C, H, W).
        classes: how many the published weights tell apart.
        normalised: of pixels in [0,1].
    """

    image: tuple[int, int, int]
    classes: int
    normalised: Normalisation


def preprocessing(name: str) -> Preprocessing | None:
    """Look up what a library says of a network named `timm:NAME` or `torchvision:NAME`; None if it says nothing."""
    library, _, what = name.partition(":")
    try:
        if library == "timm":
            return _of_timm(what)
        if library == "torchvision":
            return _of_torchvision(what)
    except (ImportError, ValueError, KeyError, AttributeError, RuntimeError, TypeError):
        return None  # not installed, or no such network: who builds it says so
    return None


def preprocessing_of(net: nn.Module) -> Preprocessing | None:
    """Look up what a network that timm built says of its images; None for any other network."""
    settings = getattr(net, "pretrained_cfg", None)
    if not isinstance(settings, dict):
        return None
    try:
        return _from_settings(settings, str(settings.get("architecture") or type(net).__name__))
    except (KeyError, TypeError, ValueError):
        return None


def _of_timm(what: str) -> Preprocessing | None:
    from timm.models import get_pretrained_cfg

    settings = get_pretrained_cfg(what)
    return None if settings is None else _from_settings(settings.to_dict(), what)


def _from_settings(settings: dict[str, Any], what: str) -> Preprocessing:
    channels, height, width = map(int, settings["input_size"])
    mean, std = (tuple(map(float, settings[name])) for name in ("mean", "std"))
    normalised = Normalisation(mean, std, f"timm's configuration of {what}")
    return Preprocessing((channels, height, width), int(settings["num_classes"]), normalised)


def _of_torchvision(what: str) -> Preprocessing | None:
    import torchvision.models as models

    weights = models.get_model_weights(what).DEFAULT
    shown = weights.transforms()
    mean, std = tuple(map(float, shown.mean)), tuple(map(float, shown.std))
    side = int(shown.crop_size[0])
    normalised = Normalisation(mean, std, f"torchvision's configuration of {what}")
    return Preprocessing((len(mean), side, side), len(weights.meta["categories"]), normalised)
