"""A generator beside an autoencoder that remembers what students were shown, as a source of images.

Binici et al., "Robust and Resource-Efficient Data-Free Knowledge Distillation by Generative Pseudo Replay" (PRE-DFKD),
AAAI 2022. Notation: N images, C classes, t the teacher's logits, pbar its mean probabilities over a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.precision import place
from rgal.core.problem import Domain
from rgal.core.seeding import global_seed
from rgal.nets.autoencoder import Autoencoder, gaussian_divergence
from rgal.synthesis.generators import PersistentGenerator, PersistentGeneratorSource

EVERY = 10  # draws, of which the memory learns from the first LEARNT
LEARNT = 4
PRIOR = 1e-5  # weight of the codes' divergence from N(0, 1)


@dataclass(frozen=True)
class RememberingGenerator(PersistentGenerator):
    """Optimise one generator; of what students are shown, one image in nine comes from an autoencoder's memory.

    The memory learns to reproduce half of the new images and its own ones, in pixels and in the teacher's logits, at
    the first four of every ten draws.

    Args:
        lr_code, lr_memory: Adam's step sizes of a remembered code and of the autoencoder.
    """

    lr_code: float = 0.02
    lr_memory: float = 0.0005

    def build(self, domain: Domain, device: torch.device, seed: int) -> RememberingGeneratorSource:
        return RememberingGeneratorSource(self, domain, device, seed)


def remembered_code_loss(logits: Tensor, codes: Tensor) -> Tensor:
    """Return 5 sum_c pbar log10 pbar + CE(t, argmax t) + MSE(var(z), 1) + MSE(mean(z), 0), moments over the batch.

    Args:
        logits: t, (N,C).
        codes: z, (N, latent), N of 2 or more.
    """
    shares = logits.softmax(1).mean(0)
    moments = (codes.var(0) - 1).square().mean() + codes.mean(0).square().mean()
    spread = (shares * shares.clamp_min(1e-12).log10()).sum()
    return 5 * spread + F.cross_entropy(logits, logits.argmax(1)) + moments


class RememberingGeneratorSource(PersistentGeneratorSource):
    """Hold generator, autoencoder and their optimisers. See `RememberingGenerator`."""

    spec: RememberingGenerator

    def __init__(self, spec: RememberingGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(spec, domain, device, seed)
        self.draws, self.learnt = 0, False
        with global_seed(seed, "memory"):
            self.memory = Autoencoder(spec.latent, domain.shape[0], domain.shape[1], spec.width)
        place(self.memory, device).train()
        self.memory_optimiser = torch.optim.Adam(self.memory.parameters(), spec.lr_memory)

    def meet(self, teacher: nn.Module) -> None:
        self.teacher = teacher

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.teacher(self.domain.normalise(images))
        return logits.float()

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw new images, and remembered ones in the last ninth once there is a memory; the memory then learns."""
        remembered = n // 9 if self.learnt and n // 9 > 1 else 0
        images = super().draw(n - remembered, rng)
        parts = [images[: max(2, len(images) // 2)]]
        if remembered:
            old = self._remember(remembered, rng)
            images, parts = torch.cat([images, old]), [*parts, old]
        if self.draws % EVERY < LEARNT:
            self._learn(torch.cat(parts), rng)
        self.draws += 1
        return images

    def _remember(self, n: int, rng: torch.Generator) -> Tensor:
        """Decode codes after one Adam step on `remembered_code_loss`."""
        codes = torch.randn(n, self.spec.latent, generator=rng, device=self.device).requires_grad_()
        self.memory.eval()
        with torch.enable_grad():
            loss = remembered_code_loss(self._logits(self.memory.decode(codes)), codes)
            (codes.grad,) = torch.autograd.grad(loss, [codes])
        torch.optim.Adam([codes], self.spec.lr_code).step()
        with torch.no_grad():
            images = self.memory.decode(codes.detach()).float()
        self.memory.train()
        return images

    def _learn(self, images: Tensor, rng: torch.Generator) -> None:
        """Take one step on |dec - x| + |t(dec) - t(x)| + 1e-5 KL, means over elements, codes drawn."""
        with torch.enable_grad():
            mean, log_variance = self.memory.encode(images)
            noise = torch.randn(mean.shape, generator=rng, device=self.device)
            again = self.memory.decode(mean + (0.5 * log_variance).exp() * noise)
            seen = F.l1_loss(self._logits(again), self._logits(images).detach())
            loss = F.l1_loss(again, images) + seen + PRIOR * gaussian_divergence(mean, log_variance)
            self.memory_optimiser.zero_grad(set_to_none=True)
            loss.backward()
        self.memory_optimiser.step()
        self.learnt = True

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "memory": self.memory.state_dict(),
            "memory_optimiser": self.memory_optimiser.state_dict(),
            "draws": self.draws,
            "learnt": self.learnt,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.memory.load_state_dict(state["memory"])
        self.memory_optimiser.load_state_dict(state["memory_optimiser"])
        self.draws, self.learnt = int(state["draws"]), bool(state["learnt"])
