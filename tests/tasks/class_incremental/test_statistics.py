"""What is kept of old classes: means, covariances and one radius, against loops over images and dimensions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rgal.engine.evaluation import features_of
from rgal.tasks.class_incremental.statistics import ClassStatistics, Collecting, add_classes
from tests.helpers import naive_incremental as slow
from tests.helpers import small
from tests.helpers.two_phase_builders import Tiny

ALL = ("means", "covariances", "radius", "counts")
WIDTH = 4


def phase(classes: range, seed: int, each: int = 6) -> tuple[Tensor, Tensor]:
    """Features around a mean and with a spread of each class's own, in mixed order."""
    labels = torch.tensor([c for c in classes for _ in range(each)])[
        torch.randperm(len(classes) * each, generator=small.rng(seed))
    ]
    noise = small.randn(len(labels), WIDTH, seed=seed)
    return noise * (1 + 0.3 * labels[:, None]) + labels[:, None] - 2 * torch.arange(WIDTH), labels


def assert_kept(memory: ClassStatistics, phases: list[tuple[range, Tensor, Tensor]]) -> None:
    rows = [slow.members(x, y.tolist(), c) for classes, x, y in phases for c in classes]
    means, covariances = [slow.class_mean(r) for r in rows], [slow.class_covariance(r) for r in rows]
    torch.testing.assert_close(memory.means.double(), torch.stack(means), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(memory.covariances.double(), torch.stack(covariances), rtol=1e-6, atol=1e-6)
    base = len(phases[0][0])
    assert memory.radius.item() == pytest.approx(slow.radius(covariances[:base]), rel=1e-6)
    assert memory.counts.tolist() == [len(r) for r in rows]


# The statistics -------------------------------------------------------------------------------------------------


def test_each_phase_is_kept_behind_the_earlier_ones_and_the_radius_stays() -> None:
    memory, phases = ClassStatistics(), []
    for number, classes in enumerate((range(3), range(3, 5), range(5, 6))):
        x, y = phase(classes, seed=number)
        before = memory.tensors()
        memory = add_classes(memory, x, y, classes, Collecting(ALL))
        phases.append((classes, x, y))
        assert_kept(memory, phases)
        for name, value in before.items():
            kept = getattr(memory, name)
            assert torch.equal(kept if name == "radius" else kept[: len(value)], value)
    assert memory.means.shape == (6, WIDTH) and memory.covariances.shape == (6, WIDTH, WIDTH)
    assert memory.radius.shape == () and memory.means.dtype == memory.radius.dtype == torch.float32


@pytest.mark.parametrize("keep", [("means",), ("covariances",), ("means", "radius"), ("radius",), ALL])
def test_only_what_is_asked_for_is_kept(keep: tuple[str, ...]) -> None:
    memory = ClassStatistics()
    for classes in (range(2), range(2, 4)):
        memory = add_classes(memory, *phase(classes, 0), classes, Collecting(keep))  # type: ignore[arg-type]
    assert set(memory.tensors()) == set(keep)
    whole = ClassStatistics()
    for classes in (range(2), range(2, 4)):
        whole = add_classes(whole, *phase(classes, 0), classes, Collecting(ALL))
    small.assert_same(memory.tensors(), {name: whole.tensors()[name] for name in keep})


def test_a_method_that_keeps_nothing_keeps_nothing() -> None:
    memory = add_classes(ClassStatistics(), *phase(range(2), 0), range(2), Collecting(()))
    assert memory.tensors() == {} and memory.megabytes() == 0


def test_one_image_has_no_spread() -> None:
    x, y = phase(range(2), 0, each=1)
    memory = add_classes(ClassStatistics(), x, y, range(2), Collecting(ALL))
    assert memory.covariances.abs().max() == 0 and memory.radius == 0
    assert torch.equal(memory.means, x[y.argsort()])


def test_statistics_of_features_far_from_zero_keep_their_digits() -> None:
    x, y = phase(range(2), 0)
    far = (x.double() + 1000).float()
    near = add_classes(ClassStatistics(), far - 1000, y, range(2), Collecting(ALL))
    memory = add_classes(ClassStatistics(), far, y, range(2), Collecting(ALL))
    torch.testing.assert_close(memory.covariances, near.covariances, rtol=1e-5, atol=1e-5)
    assert memory.radius.item() == pytest.approx(near.radius.item(), rel=1e-5)


def test_the_radius_is_the_deviation_of_isotropic_features() -> None:
    x = 3 * small.randn(20_000, 5) + 1
    memory = add_classes(ClassStatistics(), x, torch.arange(20_000) % 2, range(2), Collecting(("radius",)))
    assert memory.radius.item() == pytest.approx(3, rel=0.01)


# Storage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [(), ("means",), ALL])
def test_a_memory_comes_back_from_the_disk(keep: tuple[str, ...]) -> None:
    memory = add_classes(ClassStatistics(), *phase(range(2), 0), range(2), Collecting(keep))  # type: ignore[arg-type]
    again = ClassStatistics(**small.reloaded(memory.tensors()))
    small.assert_same(again.tensors(), memory.tensors())
    x, y = phase(range(2, 4), 1)
    small.assert_same(
        add_classes(again, x, y, range(2, 4), Collecting(keep)).tensors(),  # type: ignore[arg-type]
        add_classes(memory, x, y, range(2, 4), Collecting(keep)).tensors(),  # type: ignore[arg-type]
    )


def test_megabytes_are_those_of_the_tensors() -> None:
    memory = ClassStatistics(torch.zeros(10, 64), torch.zeros(10, 64, 64), torch.zeros(()))
    assert memory.megabytes() == pytest.approx((10 * 64 + 10 * 64 * 64 + 1) * 4 / 1e6)


# Features -------------------------------------------------------------------------------------------------------


def pixels(n: int) -> Tensor:
    return torch.randint(0, 256, (n, *small.GREY.shape), generator=small.rng(), dtype=torch.uint8)


@pytest.mark.parametrize("batch", [1, 5, 512])
def test_features_are_of_the_plain_images_in_evaluation_mode(batch: int) -> None:
    net, images = Tiny(4).train(), pixels(11)
    net.bn.running_mean.fill_(0.1)
    before = small.snapshot(net)
    features = features_of(net, images, small.GREY, batch=batch)
    assert net.training and net.bn.training and not features.requires_grad
    small.assert_same(small.snapshot(net), before)
    x = (images.double() / 255 - small.GREY.mean[0]) / small.GREY.std[0]
    with torch.no_grad():
        expected = net.eval().double().feature(x)
    torch.testing.assert_close(features.double(), expected, rtol=1e-5, atol=1e-5)


def test_features_of_a_bfloat16_pass_are_float32() -> None:
    net, images = Tiny(4), pixels(6)
    exact, rounded = features_of(net, images, small.GREY), features_of(net, images, small.GREY, "bf16")
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)


def test_a_frozen_part_of_a_net_keeps_its_mode() -> None:
    net = Tiny(4).train()
    net.bn.eval()
    features_of(net, pixels(2), small.GREY)
    assert net.training and not net.bn.training and isinstance(net.bn, nn.BatchNorm2d)


def test_noise_of_the_radius_is_as_far_as_images_are_from_their_mean() -> None:
    """Of the base classes: the root mean square distance of images to means is r sqrt(D), as of mean + r e."""
    x, y = phase(range(3), 0, each=50)
    memory = add_classes(ClassStatistics(), x, y, range(3), Collecting(ALL))
    squares = sum(float((f - memory.means[c]).square().sum()) for f, c in zip(x, y.tolist(), strict=True))
    assert math.sqrt(squares / len(x)) == pytest.approx(memory.radius.item() * math.sqrt(WIDTH), rel=1e-5)
