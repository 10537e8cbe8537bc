"""FeTrIL: an extractor that is never trained again; features of new classes, moved, stand for those of old ones.

Petit et al., "FeTrIL: Feature Translation for Exemplar-Free Class-Incremental Learning", WACV 2023, arXiv 2211.13131.
classifier "svc" is the official one-against-rest SVM on features of unit length, "fc" its linear variant. The first
phase is the one that all methods share; the authors train theirs with a cosine classifier and augmentation of its own.
Every feature has unit length here; the official script leaves the first 512 rows as they are, an oversight by its
looks. With `+rgal` the class an old one is translated from is not the nearest, but the one whose translation spreads
most (see docs/fidelity.md): there is no extractor that a triplet could train.
"""

from typing import Literal

from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.spec import IncrementalSpec


@method("fetril", reference="Petit et al., WACV 2023, arXiv 2211.13131", tasks=("necil",))
def fetril(classifier: Literal["svc", "fc"] = "svc") -> Recipe:
    return incremental(
        spec=IncrementalSpec(classifier=classifier, frozen=("extractor",), keeps=("means",)), steps=0
    )
