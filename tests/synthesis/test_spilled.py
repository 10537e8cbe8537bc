"""A pool whose images are in a file: the same pool, in memory for no more than a batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from rgal.core.errors import UserError
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.pool_files import FILE, load_pool, save_pool
from tests.helpers import small
from tests.helpers.pool_builders import SHAPE, epoch, life, numbered
from tests.helpers.suites import SUITE, call

pytestmark = pytest.mark.usefixtures("little_memory")
HELD = 30  # bytes: five images


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rgal.synthesis.pool.HELD", HELD)


def spilled(path: Path, count: int) -> ImagePool:
    pool = ImagePool(SHAPE, file=path)
    for start in range(0, count, 4):
        pool.add(*numbered(start, min(4, count - start)))
    return pool


def test_it_is_the_pool_that_memory_holds(tmp_path: Path) -> None:
    pool, plain = spilled(tmp_path / "pool.u8", 23), ImagePool(SHAPE)
    plain.add(*numbered(0, 23))
    assert (tmp_path / "pool.u8").stat().st_size == 23 * 6 and not len(pool._images)
    rows = torch.tensor([22, 0, 7, 7])
    for one, other in zip(pool.at(rows), plain.at(rows), strict=True):
        assert torch.equal(one, other)
    assert life(pool, small.rng()) == life(plain, small.rng())
    assert torch.equal(pool.images, plain.images) and torch.equal(pool.targets, plain.targets)
    assert torch.equal(pool.uint8_at(torch.empty(0, dtype=torch.int64)), plain.images[:0])


def test_few_images_or_a_bounded_pool_need_no_file(tmp_path: Path) -> None:
    few = spilled(tmp_path / "few", 5)
    bounded = ImagePool(SHAPE, capacity=20, file=tmp_path / "bounded")
    bounded.add(*numbered(0, 40))
    assert not list(tmp_path.iterdir()) and len(few) == 5 and len(bounded) == 20


def test_adding_writes_the_new_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, written, write = spilled(tmp_path / "pool.u8", 40), [], os.pwrite

    def pwrite(descriptor: int, content: Any, place: int) -> int:
        part = content[:7]  # a system may write less than it is given
        written.append((place, len(part)))
        return write(descriptor, part, place)

    monkeypatch.setattr(os, "pwrite", pwrite)
    pool.add(*numbered(40, 3))
    assert written == [(240, 7), (247, 7), (254, 4)]
    assert pool.images[:, 0, 0, 0].tolist() == list(range(43))


@pytest.mark.parametrize("more", [0, 9])
def test_a_checkpoint_has_the_number_and_the_file_is_cut_back_to_it(tmp_path: Path, more: int) -> None:
    path, rng = tmp_path / "pool.u8", small.rng()
    pool = spilled(path, 15)
    epoch(pool, 2, 4, rng)
    state, generator = small.reloaded(pool.state_dict()), rng.get_state()
    assert "images" not in state and state["in_file"] == 15
    expected = life(spilled_again(tmp_path / "other", state, pool), rng)
    if more:
        pool.add(*numbered(90, more))  # by a run that was killed before its next checkpoint
    again = ImagePool(SHAPE, file=path)
    again.load_state_dict(state)
    assert path.stat().st_size == 15 * 6 and again.images[:, 0, 0, 0].tolist() == list(range(15))
    rng.set_state(generator)
    assert life(again, rng) == expected


def spilled_again(path: Path, state: dict[str, Any], pool: ImagePool) -> ImagePool:
    """Another pool in the same state, with a file of its own."""
    path.write_bytes(pool.images.numpy().tobytes())
    again = ImagePool(SHAPE, file=path)
    again.load_state_dict(state)
    return again


def test_a_file_that_lacks_images_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "pool.u8"
    state = spilled(path, 15).state_dict()
    os.truncate(path, 14 * 6 + 5)
    with pytest.raises(UserError, match=r"pool\.u8: holds 14 of the 15 images"):
        ImagePool(SHAPE, file=path).load_state_dict(state)


def test_a_kept_pool_has_the_same_bytes(tmp_path: Path) -> None:
    plain = ImagePool(SHAPE)
    plain.add(*numbered(0, 23))
    contents = []
    for pool in (spilled(tmp_path / "pool.u8", 23), plain):
        save_pool(pool, tmp_path, {"method": "cmi"}, 23)
        contents.append((tmp_path / FILE).read_bytes())
        assert torch.equal(load_pool(tmp_path / FILE, SHAPE, 23)[0], plain.images)
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("no_report", "no_pictures")
def test_a_trial_has_the_same_numbers_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for held in (HELD, 10**9):
        folder = tmp_path / str(held)
        folder.mkdir()
        (folder / "suite.yaml").write_text(SUITE.replace("rounds: 1", "rounds: 2"))
        monkeypatch.setattr("rgal.synthesis.pool.HELD", held)
        assert call(folder) == 0
        (weights,) = (folder / "results" / "trials").glob("*/student.safetensors")
        results.append(weights.read_bytes())
        assert not list(weights.parent.glob("*.u8"))
    assert results[0] == results[1]
