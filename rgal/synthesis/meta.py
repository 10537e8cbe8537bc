"""FastDFKD's meta-generator as a source of images."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rgal.core.precision import adam
from rgal.core.problem import Domain
from rgal.nets.generators import reset_first
from rgal.synthesis.generators import FreshGenerator, FreshGeneratorSource
from rgal.synthesis.image_source import Adam, ImageSource


@dataclass(frozen=True)
class MetaGenerator(FreshGenerator):
    """Optimise a copy of a meta-generator with fresh codes in each round, then move the meta-generator by one step.

    Fang et al., "Up to 100x Faster Data-Free Knowledge Distillation" (FastDFKD), AAAI 2022.

    Args:
        meta_lr: learning rate of the meta step, which Adam does.
        form: its gradient. "fomaml": the sum of the gradients of all inner steps; "reptile": the difference to the
            copy at the end of the round.
        reset: the round, counted from 1, that begins with `reset_first` of the meta-generator; 0: none.
    """

    meta_lr: float = 0.02
    form: str = "fomaml"
    reset: int = 0

    def build(self, domain: Domain, device: torch.device, seed: int) -> ImageSource:
        return MetaGeneratorSource(self, domain, device, seed)


class MetaGeneratorSource(FreshGeneratorSource):
    """Keep the meta-generator as `net` and adapt the copy `inner` of it in each round. See `MetaGenerator`."""

    spec: MetaGenerator

    def __init__(self, spec: MetaGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(spec, domain, device, seed)
        self.inner = copy.deepcopy(self.net)
        groups = [{"params": list(self.net.parameters()), "lr": spec.meta_lr}]
        self.meta_optimiser = adam(groups, (0.5, 0.999), device)
        self.rounds = 0

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        self.rounds += 1
        if self.rounds == self.spec.reset:
            reset_first(self.net, self.rng)
        self.inner.load_state_dict(self.net.state_dict())
        self.meta_optimiser.zero_grad(set_to_none=True)
        self.codes = torch.randn(self.n, self.spec.latent, generator=self.rng, device=self.device)
        self._make_optimiser(optimiser)

    def _make_optimiser(self, optimiser: Adam) -> None:
        self.codes = self.codes.detach().requires_grad_()
        self.adam = optimiser
        groups = [
            {"params": list(self.inner.parameters()), "lr": optimiser.lr},
            {"params": [self.codes], "lr": self.spec.lr_latent or optimiser.lr},
        ]
        self.optimiser = adam(groups, optimiser.betas, self.device)

    def images(self) -> Tensor:
        return self.inner(self.codes).float()

    def step(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.spec.form == "fomaml":
            # First-order MAML: the meta gradient is the sum of the inner gradients, each before its update.
            for meta, inner in zip(self.net.parameters(), self.inner.parameters(), strict=True):
                if inner.grad is not None:
                    meta.grad = inner.grad.clone() if meta.grad is None else meta.grad + inner.grad
        self.optimiser.step()

    @torch.no_grad()
    def finish(self) -> None:
        if self.spec.form == "reptile":
            for meta, inner in zip(self.net.parameters(), self.inner.parameters(), strict=True):
                meta.grad = meta - inner
        self.meta_optimiser.step()
        for meta_buffer, inner_buffer in zip(self.net.buffers(), self.inner.buffers(), strict=True):
            meta_buffer.copy_(inner_buffer)

    def state_dict(self) -> dict[str, Any]:
        grads = [None if p.grad is None else p.grad.clone() for p in self.net.parameters()]
        meta = {"inner": self.inner.state_dict(), "meta_optimiser": self.meta_optimiser.state_dict()}
        return super().state_dict() | meta | {"meta_grads": grads, "rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.inner.load_state_dict(state["inner"])
        self.meta_optimiser.load_state_dict(state["meta_optimiser"])
        self.rounds = int(state["rounds"])
        for parameter, grad in zip(self.net.parameters(), state["meta_grads"], strict=True):
            parameter.grad = None if grad is None else grad.to(self.device)
