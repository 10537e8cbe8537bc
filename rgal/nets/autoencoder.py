"""A small variational autoencoder of images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rgal.nets.generators import Generator


class Autoencoder(nn.Module):
    """Encode images (N,C,S,S) as the mean and log variance of codes (N, latent), and decode codes to images in [0,1].

    Encoder: two 3x3 convolutions with batch norm and LeakyReLU, halved by nearest neighbour, a convolution of stride 2,
    two linear layers. Decoder: `rgal.nets.generators.Generator`.

    Args:
        latent: width of a code.
        channels, size: of the images; size is a multiple of 4.
        width: channels of the first maps.
    """

    def __init__(self, latent: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
        )
        self.narrow = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width)
        )
        self.codes = nn.Linear(2 * width * (size // 4) ** 2, 2 * latent)
        self.decode = Generator(latent, channels=channels, size=size, width=width)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each (N, latent)."""
        halved = F.interpolate(self.maps(images), scale_factor=0.5)
        mean, log_variance = self.codes(self.narrow(halved).flatten(1)).chunk(2, dim=1)
        return mean, log_variance


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, e^log_variance) || N(0, 1)), summed over dimensions, mean over samples.

    >>> import torch
    >>> gaussian_divergence(torch.ones(1, 2), torch.zeros(1, 2)).item()
    1.0
    """
    per_sample = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return per_sample.mean()
