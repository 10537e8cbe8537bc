"""NAYER's generator: which layer serves which image, what is drawn anew when, and where embeddings come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.seeding import global_seed
from rgal.nets.generators import Generator, reinitialise, reset_generator
from rgal.synthesis.image_source import Adam
from rgal.synthesis.noisy import NoisyGenerator, NoisyNet, rank_in_class
from tests.helpers import small

SPEC = NoisyGenerator(latent=7, width=4, hidden=6, life=2)
C = small.COLOUR.classes


def begun(n: int = 13, spec: NoisyGenerator = SPEC, rounds: int = 1) -> Any:
    images = spec.build(small.COLOUR, torch.device("cpu"), 0)
    rng = small.rng()
    for _ in range(rounds):
        images.attach(n, rng)
        images.start(images.required_labels(n, rng).sort().values, Adam(0.01))
    return images


def one_by_one(net: NoisyNet, labels: Tensor, layer: Tensor) -> Tensor:
    """Every image through its own linear layer, one after the other."""
    x = net.table[labels]
    x = (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5) * net.norm.weight + net.norm.bias
    hidden = [net.weight[k] @ row + net.bias[k] for k, row in zip(layer.tolist(), x, strict=True)]
    return net.decoder(torch.stack(hidden))


def test_each_image_goes_through_its_own_layer() -> None:
    images = begun()
    made, expected = images.images(), one_by_one(images.net, images.targets, images.layer)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    weights = small.randn(*made.shape, seed=3)
    shown, wanted = (
        torch.autograd.grad((x * weights).sum(), list(images.net.parameters())) for x in (made, expected)
    )
    for a, b in zip(shown, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n", [3, 5, 13, 20])
def test_labels_are_balanced_and_no_two_images_alike(n: int) -> None:
    images = begun(n)
    counts = torch.bincount(images.targets, minlength=C)
    assert counts.sum() == n and counts.max() - counts.min() <= 1
    assert len(images.net.weight) == -(-n // C)
    pairs = set(zip(images.targets.tolist(), images.layer.tolist(), strict=True))
    assert len(pairs) == n
    assert len(images.images().detach().flatten(1).unique(dim=0)) == n


def test_rank_in_class() -> None:
    assert rank_in_class(torch.tensor([2, 0, 2, 2, 0, 1])).tolist() == [0, 0, 1, 2, 1, 0]


def test_labels_a_recipe_drew_itself_share_layers() -> None:
    images = SPEC.build(small.COLOUR, torch.device("cpu"), 0)
    images.attach(6, small.rng())
    images.start(torch.tensor([0, 0, 0, 1, 1, 2]), Adam(0.01))
    assert images.layer.tolist() == [0, 1, 0, 0, 1, 0] and images.images().shape == (6, *small.COLOUR.shape)


def test_noise_is_drawn_every_round_and_the_rest_at_the_end_of_its_life() -> None:
    states = []
    for rounds in (1, 2, 3):
        images = begun(rounds=rounds)
        states.append(small.snapshot(images.net))
        assert not images.net.bias.any() and states[-1]["weight"].std().item() == pytest.approx(1, 0.1)
    first, second, third = states
    decoder = [name for name in first if name.startswith("decoder") and first[name].ndim > 1]
    assert all(torch.equal(first[name], second[name]) for name in decoder)
    assert not any(torch.equal(second[name], third[name]) for name in decoder)
    assert not torch.equal(first["weight"], second["weight"]) and torch.equal(first["table"], third["table"])


def test_reinitialising_has_torchs_own_distribution() -> None:
    with global_seed("twin"):
        net, twin = Generator(50, width=32), Generator(50, width=32)
    reset_generator(net, small.rng())
    reinitialise(net, small.rng())
    for (name, ours), theirs in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        if ours.ndim > 1 or name.endswith("project.bias"):
            assert ours.std() == pytest.approx(theirs.std().item(), rel=0.1), name
            assert ours.abs().max() == pytest.approx(theirs.abs().max().item(), rel=0.1), name
        elif name == "body.9.bias":  # of three numbers, only the limit is known: 1 / sqrt(32 * 9)
            assert 0 < ours.abs().max() <= 1 / 17 + 0.001
        else:
            assert torch.equal(ours, theirs), name


def test_a_round_taken_up_by_another_seed_goes_on_bit_for_bit() -> None:
    """Table, noise, moments and the age of the generator are all in the state."""

    def steps(images: Any, count: int) -> list[Tensor]:
        made = []
        for _ in range(count):
            made.append(images.images())
            images.step(made[-1].square().sum())
        return [x.detach() for x in made]

    def rest(images: Any, rng: torch.Generator) -> list[Tensor]:
        made = steps(images, 2)
        images.start(images.required_labels(13, rng).sort().values, Adam(0.01))
        return made + steps(images, 2)

    rng, later = small.rng(), small.rng()
    images = SPEC.build(small.COLOUR, torch.device("cpu"), 0)
    for _ in range(2):
        images.attach(13, rng)
        images.start(images.required_labels(13, rng).sort().values, Adam(0.01))
        steps(images, 2)
    state = small.reloaded(images.state_dict())
    later.set_state(rng.get_state())
    again = SPEC.build(small.COLOUR, torch.device("cpu"), 5)
    again.attach(13, later)
    again.load_state_dict(state)
    small.assert_same(rest(images, rng), rest(again, later))


# Embeddings -----------------------------------------------------------------------------------------------------

TABLE = small.randn(C, 9)


def written(path: Path, table: Any = TABLE) -> NoisyGenerator:
    if path.suffix == ".npy":
        numpy.save(path, table.numpy() if isinstance(table, Tensor) else table)
    elif path.suffix == ".safetensors":
        safetensors.torch.save_file({"embeddings": table}, path)
    else:
        torch.save(table, path)
    return replace(SPEC, embeddings=str(path))


def test_embeddings_are_orthogonal_without_a_file() -> None:
    table = begun().net.table
    torch.testing.assert_close(table @ table.T, torch.eye(C), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors", "a.pt"])
def test_embeddings_come_from_a_file(name: str, tmp_path: Path) -> None:
    images = begun(spec=written(tmp_path / name))
    assert torch.equal(images.net.table, TABLE)
    assert isinstance(images.net.norm, nn.BatchNorm1d) and images.net.weight.shape[2] == 9


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("a.npy", TABLE[:3], r"shape \(3, 9\), expected one matrix with 5 rows"),
        ("a.npy", numpy.array([{}]), "expected a .npy file of numbers"),
        ("a.pt", TABLE * float("nan"), "not finite"),
        ("a.pt", {"a": TABLE, "b": TABLE}, "holds 2 entries"),
        ("a.safetensors", torch.zeros(C, 2, 2), r"shape \(5, 2, 2\)"),
        ("a.pt", [1, 2], "holds a list"),
    ],
)
def test_other_files_are_refused_in_one_line(name: str, table: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        begun(spec=written(tmp_path / name, table))
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("none.npy", "none.pt"):
        with pytest.raises(UserError, match=name):
            begun(spec=replace(SPEC, embeddings=str(tmp_path / name)))
