"""Views: the augmented versions of images that networks are shown. They are batched, differentiable and seeded.

A view takes images (N,C,H,W) in [0,1] and returns images in [0,1], which are normalised afterwards. Zero padding
therefore means black, as in the public implementations.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from rgal.core.problem import Domain


class View(Protocol):
    """Augment images in [0,1], with random draws from a generator on the images' device."""

    def __call__(self, images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor: ...


def identity(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
    """Return the images as they are."""
    return images


def crop_flip(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
    """Crop each zero-padded image at an offset of its own, then flip it with probability 0.5 if labels allow it.

    Implemented as one gather, which is exact and five times faster than resampling.

    Args:
        images: (N,C,H,W) in [0,1].
        domain: its `crop_padding` and `flip` apply.
        rng: generator on the images' device.

    >>> domain = Domain((3, 8, 8), 10, (0.5,) * 3, (0.5,) * 3, crop_padding=1)
    >>> crop_flip(torch.rand(2, 3, 8, 8), domain, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
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
    """Make a view that rolls the whole batch by one offset and flips it by one coin (DeepInversion).

    Args:
        pixels: the largest roll in both directions, for images of 32 pixels; at other sizes it scales with the image,
            and is at least one pixel unless `pixels` is 0.
        flip: whether to flip at all, if labels allow it.
    """

    def view(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
        n, channels, height, width = images.shape
        device = images.device
        reach = max(1, round(pixels * height / 32)) if pixels else 0
        # Gathers take offsets on the device; torch.roll would need its shifts on the host.
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
    """Make a view that resizes a random crop of each image back to full size, then flips it if labels allow it.

    This is CMI's local view.

    Args:
        scale: lowest and highest share of the image's area in a crop.
        ratio: lowest and highest ratio of a crop's width to its height.
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
    """Cut a box out of each image and resize it back to the image's size, with kornia.

    Args:
        images: (N,C,H,W).
        left, top, right, bottom: positions (N,) in pixels of the boxes' corner pixels.

    Returns:
        (N,C,H,W).
    """
    from kornia.geometry.transform import crop_and_resize

    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    boxes = torch.stack([torch.stack(corner, dim=1) for corner in corners], dim=1)
    return crop_and_resize(images, boxes, (images.shape[2], images.shape[3]))


def crops_in_order(images: Tensor, left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """Do the same as `crops`, with the same arguments, by two matrix products: rows @ image @ columns.

    A bilinear sample weights a pixel with max(0, 1 - distance) in each direction. On a GPU, the gradient of `crops` is
    summed in a different order in every run; the gradient of a product is not.

    >>> images, ends = torch.arange(4.0).view(1, 1, 2, 2), (torch.tensor([0.0]), torch.tensor([1.0]))
    >>> crops_in_order(images, ends[0], ends[0], ends[1], ends[1]).equal(images)  # the whole image
    True
    """

    def weights(start: Tensor, end: Tensor, size: int) -> Tensor:
        pixels = torch.arange(size, device=images.device, dtype=images.dtype)
        at = start[:, None] + (end - start)[:, None] * pixels / max(size - 1, 1)
        return (1 - (at[:, :, None] - pixels).abs()).clamp_min(0)[:, None]  # (N,1,sample,pixel)

    height, width = images.shape[2:]
    return weights(top, bottom, height) @ images @ weights(left, right, width).mT


def sometimes(view: View, probability: float = 0.5) -> View:
    """Make a view that applies another one with some probability: one coin for the whole batch, drawn first.

    The other view is computed either way, so that the coin can stay on the device.
    """

    def coin_view(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
        coin = torch.rand((), generator=rng, device=images.device)
        return torch.where(coin < probability, view(images, domain, rng), images)

    return coin_view


def chain(*views: View) -> View:
    """Make a view that applies several, one after the other."""

    def chained(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
        for view in views:
            images = view(images, domain, rng)
        return images

    return chained


def low_pass(deviation: float) -> View:
    """Make a view that damps high frequencies by a Gaussian: what remains of frequency f is exp(-|f|^2 / (2 d^2)).

    SynQ (Kim et al., ICLR 2025), whose d is 80 for images of 224 pixels. A constant image stays as it is, so that it
    does not matter whether images are filtered before they are normalised or afterwards.

    Args:
        deviation: d over the image's height, so that images of all sizes keep the same share of their frequencies.

    Raises:
        ValueError: `deviation` is not above 0.
    """
    if deviation <= 0:
        raise ValueError(
            f"a low pass of deviation {deviation:g} lets nothing through; expected a number above 0"
        )

    def view(images: Tensor, domain: Domain, rng: torch.Generator) -> Tensor:
        height, width = images.shape[2:]
        fy = torch.fft.fftfreq(height, device=images.device)[:, None] * height
        fx = torch.fft.rfftfreq(width, device=images.device)[None, :] * width
        kept = torch.exp(-(fy.square() + fx.square()) / (2 * (deviation * height) ** 2))
        return torch.fft.irfft2(torch.fft.rfft2(images) * kept, s=(height, width))

    return view


def rotations(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Turn square images (N,C,S,S) with labels y (N,) by k = 0, 1, 2 and 3 quarters: (4N,C,S,S), with labels 4y + k.

    >>> rotations(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))[1]
    tensor([0, 4, 1, 5, 2, 6, 3, 7])
    """
    turned = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
    return turned, torch.cat([4 * targets + k for k in range(4)])


def fmix(
    images: Tensor, rng: torch.Generator, decay: float = 3.0, concentration: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix the batch with a permutation of itself under one low-frequency mask: FMix (Harris et al. 2020).

    Args:
        images: (N,C,H,W).
        rng: generator on the images' device.
        decay: power of the frequency by which the mask's spectrum falls.
        concentration: the share of ones in the mask follows Beta(concentration, concentration).

    Returns:
        The mixed images, the permutation (N,), and the mask (H,W) of zeros and ones.
    """
    n, _, height, width = images.shape
    device = images.device
    fy = torch.fft.fftfreq(height, device=device)[:, None]
    fx = torch.fft.rfftfreq(width, device=device)[None, :]
    frequency = (fy.square() + fx.square()).sqrt().clamp_min(1.0 / max(height, width))
    noise = torch.randn(2, *frequency.shape, generator=rng, device=device)
    grey = torch.fft.irfft2(torch.complex(noise[0], noise[1]) / frequency**decay, s=(height, width))
    share = _beta(concentration, rng, device)
    # Ranks against a threshold select the brightest `share` of the pixels without a host round trip.
    rank = grey.flatten().argsort().argsort().reshape(height, width)
    mask = (rank >= ((1 - share) * height * width).round()).to(images.dtype)
    permutation = torch.randperm(n, generator=rng, device=device)
    return mask * images + (1 - mask) * images[permutation], permutation, mask


def _beta(concentration: float, rng: torch.Generator, device: torch.device) -> Tensor:
    """Draw once from Beta(a, a): uniform for a = 1, else by two gamma draws."""
    if concentration == 1.0:
        return torch.rand((), generator=rng, device=device)
    shape = torch.full((2,), concentration, device=device)
    gammas = torch._standard_gamma(shape, generator=rng)
    return gammas[0] / gammas.sum()
