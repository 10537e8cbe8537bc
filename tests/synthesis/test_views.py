"""Augmentations against slices and rolls with the same draws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rgal.core.problem import Domain
from rgal.synthesis.views import (
    View,
    crop_flip,
    crops,
    crops_in_order,
    fmix,
    identity,
    jitter_flip,
    resized_crop,
    rotations,
)
from tests.helpers import naive, naive_incremental, small

UPRIGHT = replace(small.COLOUR, flip=False)
DOMAINS = [small.COLOUR, UPRIGHT, replace(small.COLOUR, crop_padding=0)]
VIEWS: dict[str, View] = {
    "identity": identity,
    "crop_flip": crop_flip,
    "jitter_flip": jitter_flip(4),
    "resized_crop": resized_crop(),
}


def images(n: int = 12, height: int = 6, width: int = 8) -> Tensor:
    """Every pixel has a value of its own."""
    return torch.linspace(0.1, 1, n * 3 * height * width).reshape(n, 3, height, width)


def crop_draws(n: int, domain: Domain, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(top, left, mirrored) as the stream gives them."""
    rng, offsets = small.rng(seed), 2 * domain.crop_padding + 1
    top, left = (torch.randint(0, offsets, (n, 1), generator=rng).flatten() for _ in range(2))
    mirrored = torch.rand(n, 1, generator=rng).flatten() < 0.5 if domain.flip else torch.zeros(n, dtype=bool)
    return top, left, mirrored


def naive_crops(x: Tensor, domain: Domain, seed: int) -> Tensor:
    draws = zip(x, *crop_draws(len(x), domain, seed), strict=True)
    return torch.stack(
        [naive.crop_flip(i, int(t), int(left), bool(m), domain.crop_padding) for i, t, left, m in draws]
    )


# All views ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_depends_on_its_stream_alone_and_spares_its_input(name: str) -> None:
    x = small.rand(8, *small.COLOUR.shape)
    before = x.clone()
    torch.manual_seed(1)
    first = VIEWS[name](x, small.COLOUR, small.rng(1))
    torch.manual_seed(2)
    assert torch.equal(first, VIEWS[name](x, small.COLOUR, small.rng(1)))
    assert torch.equal(x, before) and first.shape == x.shape and first.dtype == x.dtype
    if name != "identity":
        assert not torch.equal(first, VIEWS[name](x, small.COLOUR, small.rng(2)))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_differentiable(name: str) -> None:
    x = small.rand(4, *small.COLOUR.shape).requires_grad_()
    VIEWS[name](x, small.COLOUR, small.rng()).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.max() > 0


# Crop and flip --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS, ids=["flip", "no flip", "no padding"])
@pytest.mark.parametrize("seed", range(3))
def test_crop_flip_equals_slicing(seed: int, domain: Domain) -> None:
    x = images()
    assert torch.equal(crop_flip(x, domain, small.rng(seed)), naive_crops(x, domain, seed))


def test_crop_flip_of_channels_last_images_is_the_same() -> None:
    x = images()
    other = crop_flip(x.contiguous(memory_format=torch.channels_last), small.COLOUR, small.rng())
    assert torch.equal(other, crop_flip(x, small.COLOUR, small.rng()))


def test_crop_flip_draws_every_offset_and_flip() -> None:
    top, left, mirrored = crop_draws(2000, small.COLOUR, 0)
    assert set(top.tolist()) == set(left.tolist()) == set(range(7))
    assert 0.4 < mirrored.double().mean() < 0.6


def test_crop_flip_pads_with_black() -> None:
    out = crop_flip(torch.ones(200, 3, 6, 6), small.COLOUR, small.rng())
    top, left, _ = crop_draws(200, small.COLOUR, 0)
    for image, t, x in zip(out, top.tolist(), left.tolist(), strict=True):
        assert set(image.unique().tolist()) <= {0.0, 1.0}
        assert image.sum().item() == 3 * (6 - abs(t - 3)) * (6 - abs(x - 3))


def test_crop_flip_without_flip_never_mirrors() -> None:
    """Pixels of a row keep their order: differences to the right never become negative inside the image."""
    out = crop_flip(images(200), UPRIGHT, small.rng())
    inside = (out[..., 1:] > 0) & (out[..., :-1] > 0)
    assert ((out[..., 1:] - out[..., :-1])[inside] > 0).all()


def test_crop_flips_gradient_scatters_ones() -> None:
    x, weight = images().requires_grad_(), small.randn(12, 3, 6, 8)
    (crop_flip(x, small.COLOUR, small.rng(3)) * weight).sum().backward()
    twin = images().requires_grad_()
    (naive_crops(twin, small.COLOUR, 3) * weight).sum().backward()
    assert torch.equal(x.grad, twin.grad)
    ones = images().requires_grad_()
    crop_flip(ones, small.COLOUR, small.rng(3)).sum().backward()
    assert set(ones.grad.unique().tolist()) == {0.0, 1.0}


# Jitter ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", [small.COLOUR, UPRIGHT], ids=["flip", "no flip"])
@pytest.mark.parametrize("seed", range(6))
def test_jitter_flip_is_one_roll_and_one_flip(seed: int, domain: Domain) -> None:
    x, rng = images(), small.rng(seed)
    down, right = torch.randint(-3, 4, (2,), generator=rng).tolist()
    expected = torch.roll(x, (down, right), (2, 3))
    if domain.flip and torch.rand((), generator=rng) < 0.5:
        expected = expected.flip(3)
    pixels = 3 * 32 // x.shape[2]  # given for 32-pixel images
    assert torch.equal(jitter_flip(pixels)(x, domain, small.rng(seed)), expected)


@pytest.mark.parametrize("seed", range(6))
def test_jitter_without_flips_is_one_roll(seed: int) -> None:
    """On a domain that would allow flips; no coin is drawn either."""
    x, rng, used = images(), small.rng(seed), small.rng(seed)
    shift = torch.randint(-3, 4, (2,), generator=rng).tolist()
    pixels = 3 * 32 / x.shape[2]
    assert torch.equal(jitter_flip(pixels, flip=False)(x, small.COLOUR, used), torch.roll(x, shift, (2, 3)))
    assert torch.equal(rng.get_state(), used.get_state())


@pytest.mark.parametrize(("size", "reach"), [(224, 30), (112, 15), (32, 4), (16, 2), (8, 1), (4, 1)])
def test_jitter_of_imagenet_scales_with_the_image(size: int, reach: int) -> None:
    """30 pixels at 224, 15 on the images of half that size; at least one."""
    rows = torch.arange(size, dtype=torch.float32).view(1, 1, size, 1).expand(1, 1, size, size)
    view, rng = jitter_flip(30 * 32 / 224, flip=False), small.rng()
    tops = torch.stack([view(rows, UPRIGHT, rng)[0, 0, 0, 0] for _ in range(12 * (2 * reach + 1))])
    shifts = {int(top) if top < size / 2 else int(top) - size for top in tops}
    assert {-reach, reach} <= shifts and max(map(abs, shifts)) == reach


def test_jitter_of_zero_pixels_is_the_image() -> None:
    assert torch.equal(jitter_flip(0)(images(), UPRIGHT, small.rng()), images())


# Resized crop -----------------------------------------------------------------------------------------------------


def test_resized_crop_of_everything_is_the_image() -> None:
    x = small.rand(6, *small.COLOUR.shape)
    out = resized_crop((1.0, 1.0), (1.0, 1.0))(x, UPRIGHT, small.rng())
    torch.testing.assert_close(out, x, rtol=0, atol=1e-4)


def test_resized_crop_of_everything_flips_half_of_the_images() -> None:
    x = small.rand(40, *small.COLOUR.shape)
    out = resized_crop((1.0, 1.0), (1.0, 1.0))(x, small.COLOUR, small.rng())
    straight = (out - x).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (out - x.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert (straight ^ mirrored).all() and 8 < mirrored.sum() < 32


def test_resized_crop_stays_within_the_images_range() -> None:
    x = 0.3 + 0.4 * small.rand(64, *small.COLOUR.shape)
    out = resized_crop((0.25, 1.0))(x, small.COLOUR, small.rng())
    low, high = x.amin((2, 3)), x.amax((2, 3))
    assert (out.amin((2, 3)) >= low - 1e-4).all() and (out.amax((2, 3)) <= high + 1e-4).all()


def test_resized_crop_shows_the_box_it_drew() -> None:
    """On a picture of its own coordinates: the corners tell the box, its area and aspect lie in their ranges."""
    n, size = 200, 16
    ramp = torch.linspace(0, 1, size)
    x = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)]).repeat(n, 1, 1, 1)
    out = resized_crop((0.25, 0.8))(x, UPRIGHT, small.rng()) * (size - 1)
    width = out[:, 0, 0, -1] - out[:, 0, 0, 0] + 1
    height = out[:, 1, -1, 0] - out[:, 1, 0, 0] + 1
    share, aspect = width * height / size**2, width / height
    assert 0.25 - 1e-3 <= share.min() < 0.3 and 0.7 < share.max() <= 0.8 + 1e-3
    assert 0.75 - 1e-3 <= aspect.min() < 0.8 and 1.2 < aspect.max() <= 4 / 3 + 1e-3
    torch.testing.assert_close(out[:, 0, 0], out[:, 0, -1], rtol=0, atol=1e-3)


def boxes(n: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, right, bottom of n boxes, the first the whole image, the second at two edges."""
    x, y = (small.rand(2, n, seed=s).sort(dim=0).values * (m - 1) for s, m in [(1, width), (2, height)])
    x[:, 0], y[:, 0] = torch.tensor([0, width - 1]), torch.tensor([0, height - 1])
    x[1, 1], y[0, 1] = width - 1, 0
    return x[0], y[0], x[1], y[1]


@pytest.mark.parametrize(("height", "width"), [(6, 8), (9, 5), (32, 32)])
def test_crops_as_products_equal_kornias_and_so_do_their_gradients(height: int, width: int) -> None:
    n, weight = 20, small.randn(20, 3, height, width)
    x, twin = (small.rand(n, 3, height, width).requires_grad_() for _ in range(2))
    ours, expected = crops_in_order(x, *boxes(n, height, width)), crops(twin, *boxes(n, height, width))
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-4)
    (ours * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-3, atol=2e-3)


def test_crops_as_products_equal_bilinear_samples_pixel_by_pixel() -> None:
    x = small.rand(4, 2, 5, 7).double()
    box = [side.double() for side in boxes(4, 5, 7)]
    box[0][3], box[1][3] = box[2][3], box[3][3]  # one pixel: kornia has no answer there
    expected = torch.stack(
        [naive.crop(image, *map(float, sides)) for image, *sides in zip(x, *box, strict=True)]
    )
    torch.testing.assert_close(crops_in_order(x, *box), expected, rtol=0, atol=1e-12)


# Rotations ------------------------------------------------------------------------------------------------------


def test_rotations_are_quarter_turns_as_classes_of_their_own() -> None:
    x, labels = images(5, 6, 6), torch.tensor([0, 3, 1, 1, 2])
    turned, turned_labels = rotations(x, labels)
    expected, expected_labels = naive_incremental.four_turns(x, labels)
    assert torch.equal(turned, expected) and torch.equal(turned_labels, expected_labels)
    assert (
        turned_labels.tolist()[:10] == [0, 12, 4, 4, 8, 1, 13, 5, 5, 9] and turned_labels.dtype == torch.int64
    )
    assert torch.equal(turned[:5], x) and turned.shape == (20, 3, 6, 6)
    assert len(set(zip(turned_labels.tolist(), labels.repeat(4).tolist(), strict=True))) == 16


def test_four_turns_are_none() -> None:
    x, labels = small.rand(2, 3, 5, 5), torch.tensor([0, 1])
    thrice = rotations(x, labels)[0][6:]
    assert torch.equal(rotations(thrice, labels)[0][2:4], x)


def test_rotations_of_channels_last_images_are_the_same_and_differentiable() -> None:
    x, labels = images(3, 4, 4), torch.arange(3)
    other, _ = rotations(x.contiguous(memory_format=torch.channels_last), labels)
    assert torch.equal(other, rotations(x, labels)[0])
    leaf, weight = x.clone().requires_grad_(), small.randn(12, 3, 4, 4)
    (rotations(leaf, labels)[0] * weight).sum().backward()
    back = [torch.rot90(weight[3 * k : 3 * k + 3], -k, (2, 3)) for k in range(4)]
    torch.testing.assert_close(leaf.grad, sum(back))


def test_only_square_images_turn_by_quarters() -> None:
    with pytest.raises(RuntimeError):
        rotations(images(2, 4, 6), torch.arange(2))


# FMix -----------------------------------------------------------------------------------------------------------


def fmix_parts(seed: int = 0, **options: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = small.rand(6, 3, 16, 12)
    return (x, *fmix(x, small.rng(seed), **options))


def test_fmix_takes_each_pixel_from_the_image_or_its_partner() -> None:
    x, mixed, permutation, mask = fmix_parts()
    assert sorted(permutation.tolist()) == list(range(6)) and mask.shape == (16, 12)
    for i in range(6):
        for row in range(16):
            for column in range(12):
                source = i if mask[row, column] == 1 else int(permutation[i])
                assert torch.equal(mixed[i, :, row, column], x[source, :, row, column])


def test_fmix_masks_are_binary_and_their_share_is_uniform() -> None:
    shares = []
    for seed in range(400):
        mask = fmix_parts(seed)[3]
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        shares.append(mask.mean().item())
    share = torch.tensor(shares).sort().values
    uniform = (torch.arange(400) + 0.5) / 400
    assert (share - uniform).abs().max() < 1.63 / 400**0.5  # Kolmogorov-Smirnov, 1 %


def test_fmix_share_follows_the_concentration() -> None:
    shares = torch.tensor([fmix_parts(seed, concentration=8.0)[3].mean().item() for seed in range(300)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1 / (4 * 17), rel=0.3)  # Beta(a, a): 1 / (4 (2a + 1))


def test_fmix_masks_are_low_frequency() -> None:
    """Neighbours agree far more often than in a shuffled mask of the same share."""
    agreement = []
    for seed in range(50):
        mask = fmix_parts(seed)[3]
        if 0.3 < mask.mean() < 0.7:
            agreement.append((mask[:, 1:] == mask[:, :-1]).double().mean().item())
    assert len(agreement) > 10 and sum(agreement) / len(agreement) > 0.85
