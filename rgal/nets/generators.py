"""Image generators: latent vectors to images in [0,1], and their fresh start for every round."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from rgal.core.errors import UserError


class Generator(nn.Module):
    """z (N, latent) -> images (N, channels, size, size) in [0,1].

    Linear to (2·width, size/4, size/4), BN, then twice nearest ×2, 3×3 conv, BN, LeakyReLU(0.2), then a 3×3
    conv with bias (the only one) and a sigmoid. The generator of DAFL (Chen et al. 2019) as CMI ships it:
    2,328,899 parameters at latent 256, size 32, width 64.
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
        x: Tensor = self.body(self.project(z).unflatten(1, self.start))
        return torch.sigmoid(x)


class LargeGenerator(Generator):
    """`Generator` whose first map is 4·width wide (same size/4): 4,581,955 parameters at latent 256.

    The DAFL baseline of CMI, there with latent 512: 8,776,259 parameters.
    """

    first = 4


def _doubled(width_in: int, width: int) -> tuple[nn.Module, ...]:
    return (
        nn.Upsample(scale_factor=2),
        nn.Conv2d(width_in, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.2),
    )


@torch.no_grad()
def reset_generator(net: nn.Module, generator: torch.Generator) -> None:
    """Forget everything: weights ~ N(0, 0.02), biases 0; batch norm γ ~ N(1, 0.02), β 0, statistics (0, 1).

    CMI's `reset_model`, which leaves the running statistics alone. All draws come from `generator`, in the
    order of definition, on the generator's own device: the result depends on nothing else.
    Raises TypeError if the net has a parameter that no rule above covers, as it would keep its old value.
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
    """Forget the way in: weights of the linear layer and γ of the first batch norm ~ N(0, 0.02), their biases 0.

    FastDFKD's `reset_l0`. γ around 0, not 1, is its own: images start out nearly constant.
    """
    assert isinstance(net, Generator)
    for module in (net.project, net.body[0]):
        assert isinstance(module, (nn.Linear, nn.BatchNorm2d))
        _draw(module.weight, 0.0, generator)
        module.bias.zero_()


@torch.no_grad()
def reinitialise(net: nn.Module, generator: torch.Generator) -> None:
    """Torch's own initialisation, drawn from `generator` on its device, of every linear, convolutional and batch norm
    layer of the net: weights and biases ~ U(-1, 1)/sqrt(fan in); γ 1, β 0, statistics (0, 1)."""
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
