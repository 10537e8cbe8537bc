"""Which images of a round are kept, and that the pool gets them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rgal.synthesis.image_source import Adam
from rgal.terms.objective import Progress
from tests.helpers.runs import RECIPES, make_run, named, recorded

BOUNCY = {
    "pixels": named("deepinversion", optimiser=Adam(1.5, (0.5, 0.9))),
    "generator": named("plain", optimiser=Adam(0.1, (0.5, 0.9))),
}


@pytest.mark.parametrize("name", BOUNCY)
def test_the_kept_images_are_the_lowest_iterate(name: str) -> None:
    inversion, iterates, totals = recorded(BOUNCY[name], 8)
    lowest = totals.index(min(totals))
    assert 0 < lowest < 7, "the loss must bounce for this test to say anything"
    assert torch.equal(inversion.best, iterates[lowest])
    assert inversion.best_loss.item() == pytest.approx(totals[lowest])
    images, targets = inversion.finish()
    assert torch.equal(images, iterates[lowest].clamp(0, 1))
    assert torch.equal(targets, targets.sort().values) and len(targets) == 10


@pytest.mark.parametrize("name", BOUNCY)
def test_keep_last_keeps_the_last_iterate(name: str) -> None:
    inversion, iterates, _ = recorded(replace(BOUNCY[name], keep="last"), 8)
    assert torch.equal(inversion.best, iterates[-1])


def test_the_kept_images_do_not_alias_the_live_ones() -> None:
    inversion, iterates, totals = recorded(BOUNCY["pixels"], 1)
    kept = inversion.best
    assert kept.data_ptr() != inversion.images.pixels.data_ptr()
    inversion.images.step(inversion.images.images().sum())
    assert torch.equal(kept, iterates[0])


def test_each_round_starts_its_search_anew() -> None:
    inversion, _, totals = recorded(BOUNCY["generator"], 4)
    inversion.finish()
    inversion.begin()
    assert inversion.best_loss.item() == math.inf
    inversion.step(Progress())
    assert inversion.best_loss.item() == pytest.approx(inversion.meter.take()["total"])


def test_the_pool_holds_what_was_kept() -> None:
    transfer = make_run(RECIPES["plain"])
    while transfer.mode == "synthesis":
        transfer.advance()
    images, targets = transfer.inversion.best, transfer.inversion.targets
    assert torch.equal(transfer.pool.images, (images * 255).round().to(torch.uint8))
    assert torch.equal(transfer.pool.targets, targets)
