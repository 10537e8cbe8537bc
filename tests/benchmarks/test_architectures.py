"""The table of architectures: how rows are written and read, and how what is in float is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rgal import nets
from rgal.benchmarks.architectures import (
    ARCHITECTURES,
    HEADING,
    PAGE,
    distils,
    in_float,
    row,
    rows_of,
    spread,
    write,
)
from rgal.core.problem import Domain
from rgal.nets.discover import find_parts
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.scheme import Bits, Scheme
from tests.helpers import foreign_builders as build
from tests.helpers import small

DOMAIN = Domain((3, 16, 16), 4, (0.5,) * 3, (0.25,) * 3)
FLOAT_NORM = "batch norm that follows no convolution, so that it cannot be folded"


def test_rows_are_put_in_place_and_read_back(tmp_path: Path) -> None:
    """In the order of the list, once, with what stands around the table."""
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- architectures: begin -->\n<!-- architectures: end -->\n\nafter\n")
    first, second = (
        (f"`{name}`", *(f"{i} cells" for i in range(len(HEADING) - 1))) for name in ARCHITECTURES[:2]
    )
    write(page, {ARCHITECTURES[1]: second})
    write(page, {ARCHITECTURES[0]: first, ARCHITECTURES[1]: second})
    text = page.read_text()
    assert rows_of(text) == {ARCHITECTURES[0]: first, ARCHITECTURES[1]: second}
    assert list(rows_of(text)) == list(ARCHITECTURES[:2])
    assert (
        text.startswith("before\n")
        and text.endswith("-->\n\nafter\n")
        and text.count(" | ".join(["---"] * len(HEADING))) == 1
    )


def test_the_page_has_a_place_for_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8").count("<!-- architectures: ") == 2


def test_logits_are_spread_and_batch_norms_keep_their_momentum() -> None:
    net = find_parts(build.Net().train(), "mine", 4, DOMAIN.shape)
    images = small.rand(32, *DOMAIN.shape)
    spread(net, DOMAIN.normalise(images))
    with torch.no_grad():
        logits = net(DOMAIN.normalise(images))
    assert not net.training and net.norm.momentum == 0.1
    assert abs(logits.std(0).mean().item() - 5) < 0.01 and logits.mean(0).abs().max() < 0.01


def test_a_teacher_of_tokens_is_distilled() -> None:
    teacher = find_parts(build.Blocks(4), "mine", 4, DOMAIN.shape).eval()
    assert distils(teacher, nets.build("resnet8", 4, 3, 16), DOMAIN, small.rand(8, *DOMAIN.shape)) == "`rgal`"


def test_a_teacher_of_maps_without_norms_is_distilled_without_statistics() -> None:
    maps = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU())
    net = nn.Sequential(maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    teacher = find_parts(net, "mine", 4, DOMAIN.shape)
    assert distils(teacher.eval(), nets.build("resnet8", 4, 3, 16), DOMAIN, small.rand(8, *DOMAIN.shape)) == (
        "`rgal[bn=0]`"
    )


def test_what_is_in_float_is_named_with_its_reason() -> None:
    """A norm before its convolution, as in DenseNet; layer norms and a token of a transformer."""
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)).eval()
    scheme, bits = Scheme(placement="deploy"), Bits.parse("w8a8")
    coverage = quantize(net, DOMAIN.shape, bits, scheme).coverage
    assert in_float(net, coverage, 0) == f"1 `*.*` ({FLOAT_NORM})"
    blocks = find_parts(build.Blocks(2), "mine", 4, DOMAIN.shape).eval()
    said = in_float(blocks, quantize(blocks, DOMAIN.shape, bits, scheme).coverage, 1)
    assert "2 `blocks.*.norm`, 1 `norm` (layer norm: a runtime computes its statistics in float)" in said
    assert "1 `token` (a parameter that is added or multiplied: no layer)" in said
    assert said.endswith("1 additions or products (ONNX Runtime has no integer kernel for their form)")


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_row_of_the_page_is_measured(name: str) -> None:
    """What is found, runs and stays in float is as the page has it; shares of images depend on the processor."""
    assert row(name)[:-1] == rows_of(PAGE.read_text(encoding="utf-8"))[name][:-1]


def test_the_page_has_a_row_for_every_architecture() -> None:
    assert tuple(rows_of(PAGE.read_text(encoding="utf-8"))) == ARCHITECTURES
