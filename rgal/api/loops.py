"""Parts of rgal for somebody else's training loop: the relation loss, and any term, each as a plain function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from rgal.api.networks import own_copy
from rgal.api.teacher import Teacher
from rgal.core.errors import UserError, nearest
from rgal.core.seeding import Streams, seed_for
from rgal.terms.negatives import BANDS, BandName, sample_negatives
from rgal.terms.objective import LossTerm, Objective, Progress, TermContext
from rgal.terms.relation import Polarity, fallback_share, triplet

# As RGAL has it: negatives lie in the finite band in synthesis, in the clamped one where a student is trained.
_BAND: Mapping[Polarity, BandName] = {"spread": "focal", "gather": "distance"}


class RelationLoss(nn.Module):
    """RGAL's triplet with its sampler: call it with features, labels and logits, and add what it returns to your loss.

    `spread` pushes images of one class apart and pulls those of different classes together, for images that are being
    synthesised; `gather` does the opposite, for a student that is trained on them. Over ordered pairs (a,p) of one
    label, with a negative n that is drawn for each, u of unit length: the mean of
    max(0, |u_a - u_p| - |u_a - u_n| + margin) for `gather`, and with exchanged roles for `spread`.

    Liang & Fu, IJCV 2024, arXiv 2412.11380; negatives by Wu et al., ICCV 2017. Memory is O(N^2), nothing synchronises
    the device, and a batch without a pair gives a zero that is attached to the graph.

    >>> loss = RelationLoss("spread")
    >>> features = torch.eye(4).requires_grad_()
    >>> loss(features, torch.tensor([0, 0, 1, 1]), 5 * torch.eye(4)).item()  # all are equally far apart
    0.20000000298023224

    Args:
        polarity: "spread" or "gather".
        band: which distances (of unit length logits) negatives may have: "focal" 0.5 to 1.0, "distance" up to 1.4,
            "uniform" any; None: what RGAL takes for the polarity, "focal" to spread and "distance" to gather.
        low, high: other limits of the band.
        margin: in units of the distance of unit vectors, 0 to 2.
        seed: of the draws; they go on from call to call, and are part of `state_dict`.

    Attributes:
        fallback: of the last call, the share of anchors whose negatives all lie outside the band; they are then drawn
            from all other labels.
    """

    def __init__(
        self,
        polarity: Polarity,
        band: BandName | None = None,
        low: float | None = None,
        high: float | None = None,
        margin: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if polarity not in get_args(Polarity):
            raise UserError(f"polarity {polarity!r}: {nearest(str(polarity), get_args(Polarity))}")
        if band is not None and band not in BANDS:
            raise UserError(f"band {band!r}: {nearest(str(band), BANDS)}")
        try:
            self.band = BANDS[band or _BAND[polarity]].between(low, high)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.polarity: Polarity = polarity
        self.margin, self.seed = margin, seed
        self.fallback: Tensor | None = None
        self._rng: torch.Generator | None = None

    def forward(self, features: Tensor | Sequence[Tensor], labels: Tensor, logits: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            features: what is pushed and pulled, (N,D) or maps (N,C,H,W), which are averaged over H x W; several are
                added up.
            labels: (N,), what decides who is of one class: the teacher's argmax in the paper.
            logits: what negatives are drawn by, (N, classes): the teacher's in the paper. No gradient reaches them.
        """
        parts = [features] if isinstance(features, Tensor) else list(features)
        rows = [part.float().mean((2, 3)) if part.ndim == 4 else part for part in parts]
        if (
            not rows
            or any(part.ndim != 2 or len(part) != len(labels) for part in rows)
            or len(logits) != len(labels)
        ):
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise UserError(
                f"features {shapes}, labels {tuple(labels.shape)} and logits {tuple(logits.shape)}: "
                "expected (N,D) or (N,C,H,W), (N,) and (N,classes)"
            )
        negatives = sample_negatives(logits.detach(), labels, self.band, self._generator(labels.device))
        self.fallback = fallback_share(negatives)
        return triplet(rows, negatives, self.polarity, self.margin)

    def _generator(self, device: torch.device) -> torch.Generator:
        if self._rng is None or self._rng.device != device:
            self._rng = torch.Generator(device).manual_seed(
                seed_for("relation loss", self.polarity, self.seed)
            )
        return self._rng

    def get_extra_state(self) -> Tensor:
        """Return the state of the draws, for `state_dict`."""
        return self._generator(torch.device("cpu") if self._rng is None else self._rng.device).get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Take up the state of the draws. They must be on the device on which they were stored."""
        self.get_extra_state()
        assert self._rng is not None
        self._rng.set_state(state.cpu())

    def extra_repr(self) -> str:
        return f"{self.polarity}, {self.band}, margin={self.margin}"


class TermLoss(nn.Module):
    """Any terms of rgal as one loss of images: `TermLoss(teacher, bn_statistics(10.0), one_hot(1.0))(images, labels)`.

    The terms stand in the modules of `rgal.terms`: `inversion`, `transfer`, `relation`, `contrastive`, `intra_class`,
    `game`, `batch_norm`. Each network makes one forward pass for all of them. Terms with parameters of their own, such
    as CMI's head, have them in `.parameters()`.

    Args:
        teacher: the network; its parameters get no gradient, the images do.
        terms: weighted terms, as a recipe has them.
        student: the network that terms read as "student", which is not copied; needed only for those that do.
        seed: of all random draws.

    Attributes:
        parts: of the last call, each term's loss before its weight, and "total".

    Raises:
        UserError: a term reads what a network does not have.
    """

    def __init__(
        self, teacher: Teacher, *terms: LossTerm, student: nn.Module | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        nets = {"teacher": teacher.net}
        if student is not None:
            shown = own_copy(student, type(student).__name__, teacher.domain, teacher.device)
            for name in ("layer_names", "head_name", "channels_last_layers"):
                if hasattr(shown, name) and not hasattr(student, name):
                    setattr(student, name, getattr(shown, name))
            nets["student"] = student
        self._teacher, self._streams = teacher, Streams(teacher.device, "term loss", seed)
        try:
            objective = Objective(terms, TermContext(teacher.domain, nets, seed_for("term loss", seed)))
        except (KeyError, ValueError) as error:
            if "'student'" not in str(error):
                raise
            raise UserError("a term reads the student: give student=...") from error
        self.objective = objective.to(teacher.device)
        self.parts: dict[str, Tensor] = {}

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum of the terms, a scalar, for images (N,C,H,W) in [0,1] and labels (N,)."""
        views = {"global": self._teacher.normalise(images)}
        total, self.parts, _ = self.objective(images, labels, views, self._streams, Progress())
        return total
