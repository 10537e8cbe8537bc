"""What the networks see of an image: batched, differentiable, seeded augmentations.

A view takes images (N,C,H,W) in [0,1] and returns them in [0,1]; normalisation comes after. Zero padding
therefore means black, as in the public implementations.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from rgal.core.problem import Domain


class View(Protocol):
    """(images in [0,1], domain, generator on the images' device) -> images in [0,1]."""

    def __call__(self, images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor: ...


def identity(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
    """The image itself."""
    return images


def crop_flip(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
    """Random crop of the zero-padded image, then a horizontal flip with p = 0.5 where labels allow it.

    Every image draws its own offset. One gather: exact, and five times faster than resampling.
    """
    n, channels, height, width = images.shape
    padding = domain.crop_padding
    device = images.device
    top = torch.randint(0, 2 * padding + 1, (n, 1), generator=rng, device=device)
    left = torch.randint(0, 2 * padding + 1, (n, 1), generator=rng, device=device)
    columns = torch.arange(width, device=device).expand(n, width)
    if domain.flip:
        mirrored = torch.rand(n, 1, generator=rng, device=device) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    rows = torch.arange(height, device=device) + top
    index = rows[:, :, None] * (width + 2 * padding) + (columns + left)[:, None, :]
    padded = torch.nn.functional.pad(images, [padding] * 4).reshape(n, channels, -1)
    index = index.reshape(n, 1, -1).expand(n, channels, height * width)
    return padded.gather(2, index).reshape(images.shape)


def jitter_flip(pixels: float, flip: bool = True) -> View:
    """One roll of up to `pixels` in both directions and one flip for the whole batch (DeepInversion).

    pixels are those of a 32-pixel image; at other sizes the roll scales with the image, and is at least one pixel.
    flip=False: never flipped, whatever labels allow.
    """

    def view(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
        n, channels, height, width = images.shape
        device = images.device
        reach = max(1, round(pixels * height / 32)) if pixels else 0
        # Gather with device-side offsets instead of torch.roll, which needs its shifts on the host.
        shift = torch.randint(-reach, reach + 1, (2,), generator=rng, device=device)
        rows = (torch.arange(height, device=device) - shift[0]) % height
        columns = (torch.arange(width, device=device) - shift[1]) % width
        if flip and domain.flip:
            mirrored = torch.rand((), generator=rng, device=device) < 0.5
            columns = torch.where(mirrored, columns.flip(0), columns)
        return images.index_select(2, rows).index_select(3, columns)

    return view


def resized_crop(
    scale: tuple[float, float] = (0.25, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> View:
    """A random crop of `scale` of the area, resized back, then a flip where labels allow it (CMI's local view).

    The boxes are drawn here, from the given stream; kornia resamples, on a GPU two products of matrices.
    """

    def view(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        area, aspect, x, y, coin = torch.rand(5, n, generator=rng, device=images.device)
        area = (scale[0] + (scale[1] - scale[0]) * area) * height * width
        aspect = torch.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * aspect)
        w, h = (area * aspect).sqrt().clamp(1, width), (area / aspect).sqrt().clamp(1, height)
        left, top = x * (width - w), y * (height - h)
        resample = crops_in_order if images.is_cuda else crops
        cropped = resample(images, left, top, left + w - 1, top + h - 1)
        if domain.flip:
            cropped = torch.where((coin < 0.5).view(-1, 1, 1, 1), cropped.flip(3), cropped)
        return cropped

    return view


def crops(images: Tensor, left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """Boxes whose corner pixels are given, (N,) each in pixels, of images (N,C,H,W), resized back to (N,C,H,W)."""
    from kornia.geometry.transform import crop_and_resize

    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    boxes = torch.stack([torch.stack(corner, dim=1) for corner in corners], dim=1)
    return crop_and_resize(images, boxes, (images.shape[2], images.shape[3]))


def crops_in_order(images: Tensor, left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """The same as `crops`, as rows @ image @ columns.

    A bilinear sample weighs a pixel with max(0, 1 - distance) in either direction. The gradient of `crops` adds in
    another order at every run on a GPU; that of a product does not.
    """

    def weights(start: Tensor, end: Tensor, size: int) -> Tensor:
        pixels = torch.arange(size, device=images.device, dtype=images.dtype)
        at = start[:, None] + (end - start)[:, None] * pixels / max(size - 1, 1)
        return (1 - (at[:, :, None] - pixels).abs()).clamp_min(0)[:, None]  # (N,1,sample,pixel)

    height, width = images.shape[2:]
    return weights(top, bottom, height) @ images @ weights(left, right, width).mT


def sometimes(view: View, probability: float = 0.5) -> View:
    """The view with a probability, else the image itself: one coin for the whole batch, drawn before the view's draws.

    The view is made in either case: the coin stays on the device.
    """

    def chosen(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
        coin = torch.rand((), generator=rng, device=images.device)
        return torch.where(coin < probability, view(images, domain, rng), images)

    return chosen


def rotations(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Square images (N,C,S,S) and labels y (N,) -> (4N,C,S,S), turned by k = 0, 1, 2, 3 quarters, and 4y + k (4N,)."""
    turned = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
    return turned, torch.cat([4 * targets + k for k in range(4)])


def fmix(
    images: Tensor, rng: torch.Generator, decay: float = 3.0, concentration: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """FMix (Harris et al. 2020): mix the batch with a permutation of itself under one low-frequency mask.

    images (N,C,H,W). Returns (mixed images, permutation (N,), mask (H,W) of zeros and ones); the share of ones
    follows Beta(concentration, concentration).
    """
    n, _, height, width = images.shape
    device = images.device
    fy = torch.fft.fftfreq(height, device=device)[:, None]
    fx = torch.fft.rfftfreq(width, device=device)[None, :]
    frequency = (fy.square() + fx.square()).sqrt().clamp_min(1.0 / max(height, width))
    noise = torch.randn(2, *frequency.shape, generator=rng, device=device)
    grey = torch.fft.irfft2(torch.complex(noise[0], noise[1]) / frequency**decay, s=(height, width))
    share = _beta(concentration, rng, device)
    # The brightest `share` of the pixels: rank against a threshold, without a host round trip.
    rank = grey.flatten().argsort().argsort().reshape(height, width)
    mask = (rank >= ((1 - share) * height * width).round()).to(images.dtype)
    permutation = torch.randperm(n, generator=rng, device=device)
    return mask * images + (1 - mask) * images[permutation], permutation, mask


def _beta(concentration: float, rng: torch.Generator, device: torch.device) -> Tensor:
    """One draw of Beta(a, a): for a = 1 uniform, else through two gamma draws."""
    if concentration == 1.0:
        return torch.rand((), generator=rng, device=device)
    shape = torch.full((2,), concentration, device=device)
    gammas = torch._standard_gamma(shape, generator=rng)
    return gammas[0] / gammas.sum()
