"""What images a suite's networks take: as its user says, as its data set has them, or as a library says of its nets.

Image shape and classes, images to train on and images to be measured on are three things. The first must be known; of
the others a data set has both, and networks without data have neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rgal.core.domain import GUESS, Normalisation, describe_domain, image_shape, normalisation
from rgal.core.errors import UserError
from rgal.data import Dataset, load
from rgal.data.no_data import described, without_data
from rgal.data.unread import is_missing, unread
from rgal.nets.preprocessing import Preprocessing, preprocessing
from rgal.suite.plan.settings import NO_DATA, SAY_ON_WHAT, Suite
from rgal.suite.plan.trial import Trial, short_hash

NOTHING: Mapping[str, Any] = MappingProxyType({})


def open_dataset(
    name: str,
    root: str | None,
    size: int | None,
    evaluate_on: str,
    network: Mapping[str, Any] = NOTHING,
    source: str = "",
    test_split: str | None = None,
) -> Dataset:
    """Open a data set, with the split that is evaluated on as its `test`; for `NO_DATA`, one without images.

    Args:
        name, root, size: as for `rgal.data.load`.
        evaluate_on: "validation" to hold out training images.
        network: what a user says of the images, resolved; see `resolved_network`.
        source: who says so, in words.
        test_split: as for `rgal.data.load`.
    """
    if name == NO_DATA:
        return without_data(name, network, source)
    dataset = load(name, root, size, test_split=test_split)
    return described(dataset.hold_out() if evaluate_on == "validation" else dataset, network, source)


def dataset_of(trial: Trial) -> Dataset:
    """Open the data set of a trial."""
    where = (trial.dataset, trial.data_root, trial.image_size, trial.evaluate_on)
    return open_dataset(*where, trial.network, trial.network_source, trial.test_split or None)


def is_on_disk(suite: Suite) -> bool:
    """Tell whether the data set of a suite can be expected to open without a download."""
    return not is_missing(suite.dataset, Path(suite.data_root) if suite.data_root else None)


def suite_dataset(suite: Suite, read: bool = True) -> tuple[Dataset, dict[str, Any]]:
    """Open the data set of a suite; and return what its trials hold of what the user says of the images.

    Args:
        suite: whose data set.
        read: False for a stand-in of its published size, for plans alone.

    Raises:
        UserError: something is missing or contradicts something else.
    """
    where = (suite.dataset, suite.data_root, suite.image_size, suite.evaluate_on)
    if suite.dataset == NO_DATA:
        _check_nothing_of_data(suite)
        network, source = _whole(suite)
        dataset = open_dataset(*where, network, source)
    else:
        plain = open_dataset(*where, test_split=suite.test_split) if read else _unread(suite)
        network, source = _changes(suite, plain)
        dataset = described(plain, network, source)
    held = {} if dataset.has_test else suite.chosen_budget().held_out.model_dump()
    given = {"network": network, "network_source": source, "held_out": held}
    return dataset, given | {"test_split": suite.test_split or ""}


def _unread(suite: Suite) -> Dataset:
    dataset = unread(suite.dataset, suite.image_size)
    return dataset.hold_out() if suite.evaluate_on == "validation" else dataset


def held_out_key(trial: Trial) -> str:
    """Hash all that a trial's held-out images depend on beside its teacher."""
    return short_hash([trial.held_out, trial.network, trial.precision, trial.device.partition(":")[0]])


def _check_nothing_of_data(suite: Suite) -> None:
    """Refuse what only a data set can have."""
    if suite.data_root:
        raise UserError(
            f"--data-root {suite.data_root}: --dataset none has no images; give the data a name, or leave the folder "
            "out (real images without labels: --calibration)"
        )
    if suite.image_size:
        raise UserError(
            f"image_size {suite.image_size}: --dataset none has no images to resize; give --image"
        )
    if suite.evaluate_on != "test" or suite.test_split:
        raise UserError("evaluate_on: validation: --dataset none has no images to hold out")
    if not suite.teacher_weights:
        raise UserError(
            "--dataset none: a teacher cannot be trained without data; give --teacher-weights FILE"
        )


def _whole(suite: Suite) -> tuple[dict[str, Any], str]:
    """Describe the images of networks without data, and say who says so."""
    said, known = suite.network, _library(suite)
    image = said.image or (known and known.image)
    classes = said.classes or (known and known.classes)
    missing = [flag for flag, value in (("--image CxHxW", image), ("--classes N", classes)) if not value]
    if missing or not image or not classes:
        raise UserError(f"--dataset none: {' and '.join(missing)} missing; {SAY_ON_WHAT}")
    normalised = _said(suite) or (known and known.normalised)
    flip = True if said.flip is None else said.flip
    domain = describe_domain(image, classes, normalised or None, flip)
    network = {
        "image": list(image_shape(image)),
        "classes": classes,
        "mean": list(domain.mean),
        "std": list(domain.std),
        "flip": flip,
    }
    return network, domain.source


def _changes(suite: Suite, dataset: Dataset) -> tuple[dict[str, Any], str]:
    """Describe what the images of a data set are to be taken for, where that is not what the data set says."""
    said, spec = suite.network, dataset.spec
    if said.image or said.classes:
        what = "--image" if said.image else "--classes"
        raise UserError(f"{what}: data set '{suite.dataset}' has images and classes of its own; leave it out")
    known = _library(suite) if suite.teacher_weights else None
    fits = known is not None and (known.classes == spec.classes or spec.source.startswith(GUESS))
    normalised = _said(suite) or (known.normalised if fits and known else None)
    changes: dict[str, Any] = {} if said.flip in (None, spec.flip) else {"flip": said.flip}
    if normalised is None:
        return changes, ""
    domain = describe_domain(spec.shape, spec.classes, normalised)
    if (domain.mean, domain.std) == (spec.mean, spec.std):
        return changes, domain.source
    return changes | {"mean": list(domain.mean), "std": list(domain.std)}, domain.source


def _said(suite: Suite) -> Normalisation | None:
    said = suite.network
    return normalisation(said.mean, said.std, said.normalise)


def _library(suite: Suite) -> Preprocessing | None:
    """Look up what libraries say of the teachers; None if they say nothing, or not the same of all."""
    every = [preprocessing(pair.teacher) for pair in suite.networks]
    same = {(one.image, one.classes, one.normalised.mean, one.normalised.std) for one in every if one}
    return every[0] if len(same) == 1 and all(every) else None
