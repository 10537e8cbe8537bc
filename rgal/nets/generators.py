"""Image generators, which map latent vectors to images in [0,1], and the ways to initialise them anew."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.errors import UserError


class Generator(nn.Module):
    """Map latent vectors (N, latent) to images (N, channels, size, size) in [0,1].

    A linear layer to (2·width, size/4, size/4) and batch norm; then, twice, nearest ×2, 3×3 convolution, batch norm and
    LeakyReLU(0.2); then a 3×3 convolution, the only one with bias, and a sigmoid. This is the generator of DAFL
    (Chen et al. 2019) as CMI ships it: 2,328,899 parameters at latent 256, size 32, width 64.

    Args:
        latent: width of a latent vector.
        channels: channels of the images.
        size: pixels of the images' sides, a multiple of 4.
        width: channels of the last hidden map.

    Raises:
        UserError: a number is out of range.

    >>> Generator(latent=8, size=32, width=4)(torch.zeros(2, 8)).shape
    torch.Size([2, 3, 32, 32])
    """

    first: ClassVar[int] = 2  # width of the first map, in units of `width`

    def __init__(self, latent: int, channels: int = 3, size: int = 32, width: int = 64) -> None:
        super().__init__()
        for name, value in (("latent", latent), ("channels", channels), ("width", width)):
            if value < 1:
                raise UserError(f"{type(self).__name__}: {name} is {value}, expected 1 or more")
        if size < 4 or size % 4:
            raise UserError(f"{type(self).__name__}: size is {size} pixels, expected a multiple of 4")
        self.latent = latent
        self.start: tuple[int, int, int] = (self.first * width, size // 4, size // 4)
        self.project = nn.Linear(latent, self.first * width * (size // 4) ** 2)
        self.body = nn.Sequential(
            nn.BatchNorm2d(self.first * width),
            *_doubled(self.first * width, 2 * width),
            *_doubled(2 * width, width),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        # A linear layer's rows are maps of contiguous channels, in which convolutions and norms take longer.
        first = self.project(z).unflatten(1, self.start).contiguous(memory_format=torch.channels_last)
        x: Tensor = self.body(first)
        return torch.sigmoid(x)


class LargeGenerator(Generator):
    """Use a first map of 4·width channels instead of 2·width: 4,581,955 parameters at latent 256.

    CMI's driver uses it for all games: DFAD, DFQ and ZSKT with latent 256, DAFL with latent 512 (8,776,259 parameters).
    """

    first = 4


class DoublingConv2d(nn.Conv2d):
    """Double a map (N,C,H,W) by nearest neighbour and convolve it with a 3x3 kernel, in one step.

    A pixel of the doubled map is one of four equal ones, so that the taps of a kernel which meet the same pixel can be
    added first: what is left is a transposed convolution of stride 2 with a 4x4 kernel, whose entries are the sums
    over the 2x2 windows of the padded 3x3 kernel. That is exact and has 4/9 of the multiplications.

    Args:
        width_in, width: channels of the input and of the output.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(width_in, width, 3, padding=1, bias=False)
        self.register_buffer("windows", _windows(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        width, width_in, *_ = self.weight.shape
        taps = self.weight.transpose(0, 1).reshape(-1, 9)
        with torch.autocast(x.device.type, enabled=False):
            kernel = taps @ self.get_buffer("windows")
        kernel = kernel.view(width_in, width, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1)


def _windows() -> Tensor:
    """Return which taps of a 3x3 kernel are in which 2x2 window of it, turned round and padded: (9,16) of 0 and 1.

    Window (u,v) has the taps (a,b) with a in (2 - u, 3 - u) and b in (2 - v, 3 - v).
    """
    place, taps = 2 - torch.arange(4), torch.arange(3)[:, None]
    inside = ((taps == place) | (taps == place + 1)).float()
    return torch.kron(inside, inside)


def _doubled(width_in: int, width: int) -> tuple[nn.Module, ...]:
    return (
        nn.Identity(),  # checkpoints count nearest x2 as a layer
        DoublingConv2d(width_in, width),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.2),
    )


@torch.no_grad()
def reset_generator(net: nn.Module, generator: torch.Generator) -> None:
    """Initialise a whole network anew as CMI does: weights ~ N(0, 0.02), biases 0; batch norm γ ~ N(1, 0.02), β 0.

    Running statistics are reset to (0, 1), which CMI's `reset_model` does not do. All draws come from `generator`, on
    its own device and in the order of definition, so that the result depends on nothing else.

    Raises:
        TypeError: no rule above covers a parameter, which would keep its old value.
    """
    for name, module in net.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            _draw(module.weight, 0.0, generator)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            if module.weight is not None:
                _draw(module.weight, 1.0, generator)
            module.reset_running_stats()
        elif any(True for _ in module.parameters(recurse=False)):
            raise TypeError(f"no reset rule for '{name}' ({type(module).__name__})")
        else:
            continue
        if module.bias is not None:
            module.bias.zero_()


@torch.no_grad()
def reset_first(net: nn.Module, generator: torch.Generator) -> None:
    """Initialise a generator's first two layers anew as FastDFKD's `reset_l0` does.

    Weights of the linear layer and γ of the first batch norm ~ N(0, 0.02), their biases 0. That γ is around 0 instead
    of 1 is FastDFKD's: the images start nearly constant.
    """
    assert isinstance(net, Generator)
    for module in (net.project, net.body[0]):
        assert isinstance(module, (nn.Linear, nn.BatchNorm2d))
        _draw(module.weight, 0.0, generator)
        module.bias.zero_()


@torch.no_grad()
def reinitialise(net: nn.Module, generator: torch.Generator) -> None:
    """Initialise every linear, convolutional and batch norm layer anew as torch does.

    Weights and biases ~ U(-1, 1)/sqrt(fan in), drawn from `generator` on its device; γ 1, β 0, statistics (0, 1).
    """
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            bound = module.weight[0].numel() ** -0.5
            for parameter in (p for p in (module.weight, module.bias) if p is not None):
                values = torch.empty(parameter.shape, dtype=parameter.dtype, device=generator.device)
                parameter.copy_(values.uniform_(-bound, bound, generator=generator))
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_parameters()


def _draw(parameter: Tensor, mean: float, generator: torch.Generator) -> None:
    values = torch.empty(parameter.shape, dtype=parameter.dtype, device=generator.device)
    parameter.copy_(values.normal_(mean, 0.02, generator=generator))
