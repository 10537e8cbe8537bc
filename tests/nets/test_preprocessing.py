"""What libraries say of the images of their networks."""

from __future__ import annotations

import pytest

from rgal.core.domain import NORMALISATIONS
from rgal.nets.preprocessing import preprocessing, preprocessing_of
from tests.helpers import small


def test_torchvision() -> None:
    said = preprocessing("torchvision:resnet18")
    assert said is not None and said.image == (3, 224, 224) and said.classes == 1000
    assert said.normalised.mean == NORMALISATIONS["imagenet"].mean
    assert said.normalised.source == "torchvision's configuration of resnet18"


def test_timm() -> None:
    timm = pytest.importorskip("timm")
    said = preprocessing("timm:vit_tiny_patch16_224")
    assert said is not None and said.normalised.mean == (0.5, 0.5, 0.5) and said.classes == 1000
    assert preprocessing_of(timm.create_model("vit_tiny_patch16_224", num_classes=3)) == said


@pytest.mark.parametrize("name", ["wrn16_1", "timm:no_such_net", "torchvision:no_such_net", "my_nets:make"])
def test_nothing_is_said_of_others(name: str) -> None:
    assert preprocessing(name) is None


def test_a_network_without_a_configuration() -> None:
    assert preprocessing_of(small.student(small.GREY)) is None
