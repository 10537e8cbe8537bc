"""Networks as people write them, for tests of what is found in them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def stage(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class Net(nn.Module):
    """Two stages and a linear head, with one activation for all."""

    def __init__(self, num_classes: int = 4, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 3, 2, 1)
        self.conv2 = nn.Conv2d(6, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.first = nn.Linear(8, num_classes)  # of the same width as the head
        self.fc = nn.Linear(num_classes, num_classes)

    def maps(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv2(self.relu(self.conv1(x)))))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.fc(self.relu(self.first(self.maps(x).mean((2, 3)))))


class Aside(Net):
    """What it computes last is not what it returns."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.maps(x).mean((2, 3))
        logits = self.first(pooled)
        self.fc(logits)
        return logits


class LogProbabilities(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log_softmax(1)


class Pair(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = super().forward(x)
        return y, y


class PairInTraining(Net):
    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = super().forward(x)
        return (y, y) if self.training else y


class Probabilities(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Labels(Net):
    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) * 100).long()


class Words(nn.Module):
    """A network of integers, as one of texts is."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x).flatten(1, -2).mean(1)


class Lazy(nn.Module):
    """Sizes are known once an image was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LazyConv2d(6, 3, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU())
        self.fc = nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).flatten(1))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class Blocks(nn.Module):
    """A transformer's skeleton: patches, a class token, blocks of one width."""

    def __init__(self, depth: int = 8) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.blocks = nn.Sequential(*(Block(12) for _ in range(depth)))
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = self.blocks(torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1))
        return self.head(self.norm(tokens)[:, 0])


class Viewing(Net):
    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x)
        flat = maps.view(len(x), -1)
        return self.first(flat.view(len(x), 8, -1).mean(2))


class Tokens(nn.Module):
    """A patch embedding, and something that keeps tokens; or maps with channels last."""

    def __init__(self, num_classes: int = 4, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.embed = nn.Conv2d(3, 12, 4, 4)
        self.mix = nn.Linear(12, 12)
        self.head = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.embed(x)
        tokens = self.mix(maps.permute(0, 2, 3, 1) if self.last else maps.flatten(2).transpose(1, 2))
        return self.head(tokens.flatten(1, -2).mean(1))


class GreyTokens(Tokens):
    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        self.embed = nn.Conv2d(1, 12, 4, 4)


class Flat(nn.Module):
    """Neither maps nor tokens: one vector an image from the start."""

    def __init__(self, num_classes: int = 4, pixels: int = 192) -> None:
        super().__init__()
        self.hidden = nn.Linear(pixels, 12)
        self.head = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x.flatten(1)).relu())


class Wrapped(nn.Module):
    """A net three levels down."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        body = nn.Sequential(stage(3, 6), stage(6, 8))
        self.model = nn.ModuleDict({"body": body, "pool": pooled, "head": nn.Linear(8, num_classes)})

    def forward(self, x: Tensor) -> Tensor:
        return self.model["head"](self.model["pool"](self.model["body"](x)))


class Named(Net):
    layer_names = ("conv1",)
    head_name = "first"


class MisNamed(Net):
    layer_names = ("conv9",)


class FixedSize(Net):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (16, 16):
            raise ValueError("16 pixels only")
        return super().forward(x)


class NoParameters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 4)


FACTORY = """
from torch import nn

def stage(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))

def plain(num_classes, in_channels):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, num_classes))
    return nn.Sequential(stage(in_channels, 6), stage(6, 8), head)

def bare(num_classes):
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))

def width(width): ...

def four():
    return plain(4, 3)

def other_name(n_classes):
    return plain(n_classes, 3)

def lazy(num_classes):
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), *pool, nn.LazyLinear(num_classes))

def script(num_classes):
    import torch
    return torch.jit.trace(plain(num_classes, 3).eval(), torch.zeros(1, 3, 32, 32))

def program(num_classes):
    import torch
    return torch.export.export(plain(num_classes, 3).eval(), (torch.zeros(2, 3, 32, 32),))

def program_module(num_classes):
    return program(num_classes).module()

def broken(num_classes):
    return undefined_name

def number(num_classes):
    return 3

SETTING = 3
"""
