"""R-DFCIL: ABD's images; old logits and angles between new images' features are kept, the classifier is refined last.

Gao et al., "R-DFCIL: Relation-Guided Representation Learning for Data-Free Class Incremental Learning", ECCV 2022,
arXiv 2203.13104. Weights and schedule of its code for CIFAR-100: a tenth after epochs 80 and 120 of 200, the extractor
frozen after 160. source: as for `abd`.

Differs from the code: a new class's rows of the classifier start as torch has them and have a bias, there N(0, 0.001)
without; real and replayed images share a forward pass, and so their batch norm statistics; nets are those of this
suite; the generator differs as in `abd`; the first phase has no epochs without a loss; labels are counted, for the
classifier's weights, from its refinement on, there from the phase's start.
"""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    BatchNormWeight,
    ClassWeight,
    CrossEntropyWeight,
    DiversityWeight,
    LearningRate,
    PositiveNumber,
)
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental import terms as terms
from rgal.tasks.class_incremental.recipes import from_source, generated_replay, incremental
from rgal.tasks.class_incremental.replay import generator_terms
from rgal.tasks.class_incremental.spec import IncrementalSpec

DROPS = ((0.4, 0.1), (0.6, 0.01), (0.8, 0.05))


@method("r_dfcil", reference="Gao et al., ECCV 2022, arXiv 2203.13104", tasks=("necil",))
def r_dfcil(
    source: str = "",
    ce: CrossEntropyWeight = 0.5,
    hkd: float = 0.15,
    rkd: float = 0.5,
    bn: BatchNormWeight = 50.0,
    oh: ClassWeight = 1.0,
    oh_temperature: PositiveNumber = 1000.0,
    ie: DiversityWeight = 1.0,
    smooth: float = 1e-3,
    refine: float = 0.8,
    lr: LearningRate = 1e-3,
) -> Recipe:
    losses = (
        terms.local_cross_entropy(ce, "r_dfcil", until=refine),
        terms.head_cross_entropy(ce, "counts", since=refine),
        terms.hard_distillation(hkd),
        terms.relational_distillation(rkd, until=refine),
    )
    student = SGD(0.1, 5e-4, schedule="steps", drops=DROPS)
    host = incremental(*losses, spec=IncrementalSpec(refine=refine), student=student, steps=7800)
    return from_source(
        source, generated_replay(host, generator_terms(oh, oh_temperature, ie, bn, smooth), lr, 5000)
    )
