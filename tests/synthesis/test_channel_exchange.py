"""SpaceshipNet's images: what is kept of a round, how channels are exchanged, and that nothing is lost by a stop."""

from __future__ import annotations

import pytest
import torch

from rgal.core.optimiser import SGD
from rgal.core.seeding import seed_for
from rgal.synthesis.channel_exchange import ExchangingGenerator, exchange_channels
from rgal.synthesis.image_source import Adam
from tests.helpers import small
from tests.helpers.runs import TINY, assert_resumes, named

SPEC = ExchangingGenerator(**TINY, memory=12)


def source(spec: ExchangingGenerator = SPEC):  # type: ignore[no-untyped-def]
    made = spec.build(small.COLOUR, torch.device("cpu"), 0)
    made.attach(8, small.rng())
    return made


def round_of(made, losses: list[float]) -> list[list[torch.Tensor]]:  # type: ignore[no-untyped-def]
    """Make a round whose steps have these losses; return the maps of every step."""
    made.start(made.required_labels(8, small.rng()), Adam())
    seen = []
    for loss in losses:
        images = made.images()
        seen.append(made.maps)
        made.step(images.mean() * 0 + loss + 0 * images.sum())
    made.finish()
    return seen


def test_channels_come_from_the_image_or_its_partner() -> None:
    maps = small.randn(6, 10, 3, 3)
    mixed = exchange_channels(maps, 0.5, small.rng())
    for i in range(6):
        own = [torch.equal(mixed[i, c], maps[i, c]) for c in range(10)]
        other = [torch.equal(mixed[i, c], maps[5 - i, c]) for c in range(10)]
        assert sum(own) == sum(other) == 5 and all(a != b for a, b in zip(own, other, strict=True))
    assert torch.equal(exchange_channels(maps, 0.0, small.rng()), maps)
    assert torch.equal(exchange_channels(maps, 1.0, small.rng()), maps.flip(0))
    same = maps[:1].expand(6, -1, -1, -1)
    assert torch.equal(exchange_channels(same, 0.5, small.rng()), same)


def test_the_maps_of_the_best_step_are_kept_and_the_oldest_go() -> None:
    made = source()
    first = round_of(made, [3.0, 1.0, 2.0])
    for kept, best in zip(made.memory, first[1], strict=True):
        assert torch.equal(kept, best.half())
    second = round_of(made, [1.0])
    assert [len(maps) for maps in made.memory] == [12] * 3
    assert torch.equal(made.memory[2][4:], second[0][2].half())
    assert torch.equal(made.memory[2][:4], first[1][2][-4:].half())


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_kept_map_is_decoded_to_its_image(depth: int) -> None:
    """By the same generator, with running statistics: an image of the memory, from whichever map."""
    made = source(ExchangingGenerator(**TINY, memory=12, exchange=0.0))
    round_of(made, [1.0])
    while seed_for(made.seed, "map", made.drawn) % 3 != depth:
        made.drawn += 1
    drawn = made.draw(5, small.rng(3))
    rows = torch.randint(8, (5,), generator=small.rng(3))
    made.net.eval()
    with torch.no_grad():
        expected = torch.sigmoid(made.net.body[(1, 5, 9)[depth] :](made.memory[depth][rows].float()))
    assert torch.equal(drawn, expected) and drawn.shape == (5, *small.COLOUR.shape)


def test_labels_are_fixed_by_position() -> None:
    assert source().required_labels(8, small.rng()).tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_a_stopped_run_goes_on_bit_for_bit() -> None:
    recipe = named("spaceshipnet[memory=16]", student=SGD(0.001))
    assert_resumes(recipe, (1, 3, 5, 9))
