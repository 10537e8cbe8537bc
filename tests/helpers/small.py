"""What the fixtures are made of, and the comparison that every twin test uses."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from rgal import nets
from rgal.core.observe import Observation, batch_norms
from rgal.core.precision import place
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams, global_seed
from rgal.terms.objective import Context, Progress

DEVICE = torch.device("cpu")  # that contracts run on: `pytest --device`
COLOUR = Domain((3, 16, 16), 5, mean=(0.5, 0.45, 0.4), std=(0.25, 0.2, 0.3), crop_padding=3)
GREY = Domain((1, 8, 8), 4, mean=(0.3,), std=(0.3,), flip=False, crop_padding=1)


def network(name: str, domain: Domain, seed: int = 0) -> nn.Module:
    """A net of random weights with batch norm statistics of noise images and an even spread of classes."""
    return copy.deepcopy(_network(name, domain, seed))


@cache
def _network(name: str, domain: Domain, seed: int) -> nn.Module:
    with global_seed("small network", name, seed):
        net = nets.build(name, domain.classes, *domain.shape[:2])
        noise = domain.normalise(torch.rand(64, *domain.shape))
        for layer in batch_norms(net):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.1)
            layer.momentum = 1.0
        with torch.no_grad():
            net.train()(noise)
            head = net.get_submodule(net.head_name)  # type: ignore[arg-type]
            head.weight.mul_(10)
            head.bias.sub_(net.eval()(noise).mean(0))
    for layer in batch_norms(net):
        layer.momentum = 0.1
    return place(net, torch.device("cpu"))


def problem(domain: Domain = COLOUR, teacher: str = "wrn10_1") -> Problem:
    return Problem(network(teacher, domain, seed=1), domain)


def student(domain: Domain = COLOUR, name: str = "wrn10_1") -> nn.Module:
    return network(name, domain, seed=2).train()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed))


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=rng(seed))


def context(
    domain: Domain = COLOUR,
    images: Tensor | None = None,
    targets: Tensor | None = None,
    streams: Streams | None = None,
    **observed: Observation,
) -> Context:
    """A Context made by hand; `teacher=...`, `student=...` are what was observed on the global view."""
    return Context(
        domain,
        torch.zeros(1) if images is None else images,
        torch.zeros(1, dtype=torch.int64) if targets is None else targets,
        {},
        {(net, "global"): observation for net, observation in observed.items()},
        streams or Streams("cpu", "context"),
        Progress(),
    )


def reloaded(state: Any) -> Any:
    """What comes back of a state after a trip to the disk, read as an untrusted file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu().clone() for name, value in net.state_dict().items()}


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal bit for bit, through dicts and sequences."""
    if isinstance(a, Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{index}]")
    else:
        assert a == b, f"{where}: {a} != {b}"


Loss = Callable[..., Tensor]


def _value_and_gradients(loss: Loss, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = loss(*leaves)
    assert value.ndim == 0
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach().double(), [
        (torch.zeros_like(x) if g is None else g).double() for x, g in zip(leaves, gradients, strict=True)
    ]


def assert_twins(fast: Loss, slow: Loss, *inputs: Tensor, tolerance: float = 1e-5) -> None:
    """fast(*inputs) has the value of slow(*inputs) and its gradient on every input.

    `slow` works in float64. tolerance: relative to the value, and to the largest gradient of each input.
    """
    value, gradients = _value_and_gradients(fast, inputs)
    expected, expected_gradients = _value_and_gradients(slow, [x.double() for x in inputs])
    assert torch.isfinite(value)
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert torch.isfinite(gradient).all()
        scale = float(wanted.abs().max())
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=tolerance * max(scale, 1e-3))
