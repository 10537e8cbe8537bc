"""The end of a phase: old statistics follow the extractor, those of new classes are added, a classifier is made.

In this order: the statistics of old classes are compensated for the drift; the classifier is rebalanced, if a method
does so; the new classes' statistics are added; the importance of features is taken; FeTrIL's classifier is fitted.
Then, and only once, the run looks at the test images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.core.observe import observe
from rgal.core.precision import Precision, autocast
from rgal.core.problem import Domain, evaluating
from rgal.core.seeding import seed_for
from rgal.data.dataset import ImageSet
from rgal.engine.evaluation import features_of
from rgal.tasks.class_incremental.classifiers import fit_classifier, source_classes, translated_features
from rgal.tasks.class_incremental.compensation import Shift
from rgal.tasks.class_incremental.drift_terms import feature_importance
from rgal.tasks.class_incremental.head import growing_head
from rgal.tasks.class_incremental.scoring import Ridge, ScoredNet
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.statistics import ClassStatistics, Collecting, add_classes


@dataclass(frozen=True)
class Closing:
    """End one phase of a run.

    Args:
        spec: what the method does at its end.
        phase: its number, 0 for the first.
        classes: labels that are new.
        domain: how images are normalised.
        precision: of forward passes.
        seeds: parts that all of the run's seeds start with.
    """

    spec: IncrementalSpec
    phase: int
    classes: range
    domain: Domain
    precision: Precision
    seeds: tuple[object, ...]

    def seed(self, purpose: str) -> int:
        """Return the seed of this phase for a purpose."""
        return seed_for(*self.seeds, purpose, self.phase)

    def statistics(
        self,
        kept: ClassStatistics,
        real: ImageSet,
        student: nn.Module,
        old: nn.Module | None,
        terms: Mapping[str, nn.Module],
    ) -> ClassStatistics:
        """Return the statistics of all classes so far, and fit the student's classifier where the method does that.

        Args:
            kept: statistics of the old classes.
            real: the phase's images, of the new classes.
            student: the model at the end of the phase.
            old: the model at its start; None in the first phase.
            terms: those of the phase's objective, by name.
        """
        spec, features = self.spec, self._features(student, real)
        labels = real.labels.to(features.device)
        if old is not None:
            if spec.compensate is not None:
                kept = spec.compensate(kept, self._shift(real, student, old, features, terms))
            if spec.rebalance is not None:
                spec.rebalance(growing_head(student), kept, features, labels, self.seed("rebalance"))
        kept = add_classes(kept, features, labels, self.classes, self._collecting())
        if "importance" in spec.keeps:
            kept = replace(kept, importance=feature_importance(growing_head(student), features))
        if spec.translates:
            self._fit_translated(kept, student, features, labels)
        return kept

    def shown(self, kept: ClassStatistics, student: nn.Module) -> nn.Module:
        """Return what the test images are shown: the network, or its features under the method's classifier."""
        if isinstance(self.spec.classifier, str):
            return self.spec.scored(student, self.spec.outputs)
        return ScoredNet(student, self.spec.classifier.fitted(kept, self._expansion_seed()))

    def assign(self, kept: ClassStatistics, student: nn.Module) -> None:
        """Put a classifier that is linear in the features into the student itself, which then needs no statistics."""
        if self.spec.classifier == "rows":
            weight = F.normalize(growing_head(student).weight(), dim=1)
            growing_head(student).assign(weight, weight.new_zeros(len(weight)))
        if isinstance(self.spec.classifier, str):
            return
        rows = self.spec.classifier.linear(kept)
        if rows is not None:
            growing_head(student).assign(rows.float(), rows.new_zeros(len(rows)).float())

    def _expansion_seed(self) -> int:
        """Return the seed of what a classifier draws, the same in all phases."""
        return seed_for(*self.seeds, "classifier inputs")

    def _collecting(self) -> Collecting:
        ridge = self.spec.classifier
        if not isinstance(ridge, Ridge):
            return Collecting(self.spec.keeps, self.spec.power)
        return Collecting(
            self.spec.keeps, self.spec.power, partial(ridge.inputs, seed=self._expansion_seed())
        )

    def _features(self, net: nn.Module, real: ImageSet) -> Tensor:
        return features_of(net, real.images, self.domain, self.precision)

    def _shift(
        self,
        real: ImageSet,
        student: nn.Module,
        old: nn.Module,
        features: Tensor,
        terms: Mapping[str, nn.Module],
    ) -> Shift:
        return Shift(
            old=self._features(old, real),
            new=features,
            images=real.images,
            domain=self.domain,
            before=extractor(old, self.precision),
            after=extractor(student, self.precision),
            terms=terms,
            seed=self.seed("compensation"),
        )

    def _fit_translated(
        self, kept: ClassStatistics, student: nn.Module, features: Tensor, labels: Tensor
    ) -> None:
        """Fit the classifier of all classes on features (N,D) of new ones, labels (N,), and translations of them."""
        spec, kind = self.spec, self.spec.classifier
        assert kept.means is not None and (kind == "svc" or kind == "fc")
        seed = self.seed("classifier")
        rng = torch.Generator(features.device).manual_seed(seed)
        if self.phase:
            source = source_classes(kept.means, self.classes.start, features, labels, spec.source_class, rng)
            features, labels = translated_features(kept.means, source, features, labels)
        head = growing_head(student)
        head.unit = kind == "svc"
        head.assign(*fit_classifier(features, labels, kind, seed))


def extractor(net: nn.Module, precision: Precision) -> Callable[[Tensor], Tensor]:
    """Return the function from normalised images to float32 features of a network in evaluation mode."""

    def features(inputs: Tensor) -> Tensor:
        with evaluating(net), autocast(inputs.device, precision):
            return observe(net, inputs, ("feature",)).required_feature.float()

    return features
