"""A network of somebody's own, whose data is gone: its factory, its weights, and the command line on them."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from rgal import cli
from rgal.core.seeding import global_seed
from tests.helpers.documents import ROOT

FACTORY = '''
"""A network with two branches, and a smaller one of its kind."""

import torch
from torch import nn


def block(inputs, outputs, kernel):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class TwoBranch(nn.Module):
    def __init__(self, num_classes=7, width=8):
        super().__init__()
        self.fine = nn.Sequential(block(3, width, 3), block(width, 2 * width, 3))
        self.coarse = nn.Sequential(block(3, width, 5), block(width, 2 * width, 5))
        self.joined = block(4 * width, 4 * width, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = self.joined(torch.cat([self.fine(x), self.coarse(x)], 1))
        return self.head(self.pool(x).flatten(1))


def small(num_classes):
    return TwoBranch(num_classes, width=4)
'''

DESCRIBED = ["--dataset", "none", "--classes", "7", "--image", "3x48x48", "--normalise", "imagenet"]
TEACHER = ["--teacher", "my_nets:TwoBranch", "--teacher-weights", "net.pth"]
STUDENT = ["--student", "my_nets:small"]


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Stand in a folder with my_nets.py and net.pth, and nothing else: no image lies there."""
    (folder / "my_nets.py").write_text(FACTORY)
    with mock.patch.object(sys, "path", [str(folder), *sys.path]):
        sys.modules.pop("my_nets", None)
        import my_nets  # type: ignore[import-not-found]

        with global_seed("own network"):
            net = my_nets.TwoBranch(7).train()
            for _ in range(5):  # statistics that are not those of initialisation
                net(torch.randn(16, 3, 48, 48))
        torch.save(net.state_dict(), folder / "net.pth")
        before = Path.cwd()
        try:
            os.chdir(folder)
            yield folder
        finally:
            os.chdir(before)
            sys.modules.pop("my_nets", None)


def run(*arguments: str, results: str = "results") -> int:
    """Run the command line at the smoke budget in this process."""
    return cli.main([*arguments, "--budget", "smoke", "--jobs", "0", "--results", results])


def readme_commands() -> list[list[str]]:
    """The arguments of the commands in README's section "Your own network"."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Your own network\n")[1].split("\n## ")[0]
    return [shlex.split(line) for line in re.findall(r"^ {4}python run_suite\.py (.*)$", section, flags=re.M)]
