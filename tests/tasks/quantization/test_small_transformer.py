"""The methods for vision transformers on a small one: patches of its blocks, attention in parts, stop and go."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from rgal.core.problem import freeze
from rgal.core.seeding import global_seed
from rgal.nets.discover import find_parts
from rgal.suite.task import tasks
from tests.helpers import small, trials

WIDTH, BLOCKS = 16, 2


class Block(nn.Module):
    """Attention and two layers, each behind a norm and beside its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    """Patches of 2x2 pixels, a class token, positions, blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(1, WIDTH, 2, 2), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, trials.DOMAIN.classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1) + self.positions
        return self.head(self.norm(self.blocks(y))[:, 0])


@cache
def transformer() -> nn.Module:
    with global_seed("small transformer"):
        net = find_parts(TinyViT(), "TinyViT", trials.DOMAIN.classes, trials.DOMAIN.shape)
    freeze(net)
    return net


@pytest.mark.parametrize("name", ["psaq_vit", "patch_contrast"])
def test_images_are_made_of_its_patches_and_set_its_ranges(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "trained", lambda *_: transformer())
    before, task = small.snapshot(transformer()), tasks()["dfq"]
    options = {"bits": "w4a4", "placement": "paper"}
    going, rows = trials.run("dfq", name, options)
    student = going.student
    assert len(transformer().layer_names) == BLOCKS  # type: ignore[arg-type]
    for block in range(BLOCKS):
        assert {p for p in student.layers() if p.startswith(f"blocks.{block}.attention")}
    assert all(q.ready for q in student.activations().values())
    values = [v for row in rows if row["kind"] == "synthesis" for v in row.values() if isinstance(v, float)]
    assert values and all(map(math.isfinite, values))
    small.assert_same(small.snapshot(transformer()), before)
    again = task.start(trials.job("dfq", name, options, 0))
    calls = 0
    while not again.finished:
        again.advance()
        calls += 1
        if calls < 3:  # killed amid the round, and at its end
            state = small.reloaded(again.state_dict())
            again = task.start(trials.job("dfq", name, options, 0))
            again.load_state_dict(state)
    assert calls >= 3
    small.assert_same(small.snapshot(again.student), small.snapshot(student))  # type: ignore[attr-defined]
