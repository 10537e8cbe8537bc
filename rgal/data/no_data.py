"""Networks without data, and data sets whose images somebody describes otherwise than their name does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rgal.core.domain import Normalisation, describe_domain
from rgal.data.dataset import Dataset, DataSpec


def without_data(name: str, network: Mapping[str, Any], source: str = "") -> Dataset:
    """Make a data set that has no image: only the description of those that the networks take.

    Args:
        name: what it is called.
        network: image (C, H, W), classes, mean, std and flip.
        source: who says so, in words.

    Raises:
        UserError: a number is out of range.
    """
    normalised = Normalisation(tuple(network["mean"]), tuple(network["std"]), source)
    domain = describe_domain(network["image"], network["classes"], normalised, network["flip"])
    spec = DataSpec(
        name=name,
        classes=domain.classes,
        shape=domain.shape,
        mean=domain.mean,
        std=domain.std,
        flip=domain.flip,
        crop_padding=domain.crop_padding,
        class_names=(),
        fingerprint="",
        source=source,
    )
    return Dataset(spec, None, None)


def described(dataset: Dataset, network: Mapping[str, Any], source: str = "") -> Dataset:
    """Return a data set with its images described as `network` says: mean and std, flip, or nothing of these."""
    changes = {name: value for name, value in network.items() if name in ("mean", "std", "flip")}
    if not changes:
        return dataset
    if "mean" in changes:
        changes |= {name: tuple(changes[name]) for name in ("mean", "std")} | {"source": source}
    return dataset.renamed(replace(dataset.spec, **changes))
