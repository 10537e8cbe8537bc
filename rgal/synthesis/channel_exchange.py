"""Images decoded from kept features of a generator, some of them mixed channel by channel.

Yu et al., "Data-Free Knowledge Distillation via Feature Exchange and Activation Region Constraint" (SpaceshipNet),
CVPR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rgal.core.problem import Domain, evaluating
from rgal.core.seeding import seed_for
from rgal.nets.generators import Generator
from rgal.synthesis.generators import PersistentGenerator, PersistentGeneratorSource
from rgal.synthesis.image_source import Adam

STARTS = (1, 5, 9)  # where the layers of a generator's body begin that follow its three maps


@dataclass(frozen=True)
class ExchangingGenerator(PersistentGenerator):
    """Train one generator on codes that stay for a round; students see images decoded from its kept feature maps.

    Each round draws codes and labels, which are fixed by position, and a new Adam. The three maps of the round's best
    step are kept. A student's batch takes one of the maps of kept images, exchanges channels and is decoded by the
    generator as it is now.

    Args:
        memory: images whose maps are kept, the newest, in half precision.
        exchange: probability that a batch's maps are mixed with those of the batch in reverse order.
        share: of channels that an image gets from the other one.
    """

    memory: int = 2560
    exchange: float = 0.7
    share: float = 0.5

    def build(self, domain: Domain, device: torch.device, seed: int) -> ExchangingGeneratorSource:
        return ExchangingGeneratorSource(self, domain, device, seed)


def exchange_channels(maps: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Give each image a random `share` of its channels from its partner, the image at its place in reverse order.

    maps: (N,C,H,W). An odd batch's middle image is its own partner.
    """
    n, channels = maps.shape[:2]
    order = torch.rand(n, channels, generator=rng, device=maps.device).argsort(1).argsort(1)
    theirs = order < round(share * channels)
    return torch.where(theirs[:, :, None, None], maps.flip(0), maps)


class ExchangingGeneratorSource(PersistentGeneratorSource):
    """Hold generator, codes and kept maps. See `ExchangingGenerator`."""

    def __init__(self, spec: ExchangingGenerator, domain: Domain, device: torch.device, seed: int) -> None:
        super().__init__(spec, domain, device, seed)
        self.exchange, self.seed = spec, seed
        self.drawn = 0
        self.maps: list[Tensor] = []
        self.best: list[Tensor] = []
        self.best_loss = torch.tensor(float("inf"), device=device)
        self.memory: list[Tensor] = []

    def required_labels(self, n: int, rng: torch.Generator) -> Tensor | None:
        """Return labels that are fixed by position: all classes equally often, the first ones once more."""
        return torch.arange(n, device=self.device) % self.domain.classes

    def start(self, targets: Tensor, optimiser: Adam) -> None:
        self.codes = torch.randn(self.n, self.spec.latent, generator=self.rng, device=self.device)
        self._make_optimiser(optimiser)
        self.best_loss, self.best = torch.full_like(self.best_loss, float("inf")), []

    def images(self) -> Tensor:
        net = self.net
        assert isinstance(net, Generator)
        x, begin, self.maps = net.project(self.codes).unflatten(1, net.start), 0, []
        for start in STARTS:
            x, begin = net.body[begin:start](x), start
            self.maps.append(x.detach())
        return torch.sigmoid(net.body[begin:](x)).float()

    def step(self, loss: Tensor) -> None:
        better = loss.detach() < self.best_loss
        self.best_loss = torch.where(better, loss.detach(), self.best_loss)
        pairs = zip(self.maps, self.best or self.maps, strict=True)
        self.best = [torch.where(better, new, old) for new, old in pairs]
        super().step(loss)

    def finish(self) -> None:
        kept = [maps.half() for maps in self.best or self.maps]
        joined = [torch.cat(pair) for pair in zip(self.memory, kept, strict=True)] if self.memory else kept
        self.memory = [maps[-self.exchange.memory :] for maps in joined]
        self.best, self.maps = [], []

    @torch.no_grad()
    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Decode n kept images from one of their maps, some with channels exchanged; running statistics apply."""
        # Which map, and whether it is mixed, are decided on the host: the device need not be asked.
        depth = seed_for(self.seed, "map", self.drawn) % len(STARTS)
        mixes = seed_for(self.seed, "exchange", self.drawn) % 1000 < 1000 * self.exchange.exchange
        self.drawn += 1
        rows = torch.randint(len(self.memory[depth]), (n,), generator=rng, device=self.device)
        maps = self.memory[depth][rows].float()
        if mixes:
            maps = exchange_channels(maps, self.exchange.share, rng)
        with evaluating(self.net):
            body = self.net.get_submodule("body")
            return torch.sigmoid(body[STARTS[depth] :](maps)).float()  # type: ignore[index]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "drawn": self.drawn,
            "maps": self.maps,
            "best": self.best,
            "best_loss": self.best_loss,
            "memory": self.memory,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.drawn, self.best_loss = int(state["drawn"]), state["best_loss"].to(self.device)
        for name in ("maps", "best", "memory"):
            setattr(self, name, [maps.to(self.device) for maps in state[name]])
