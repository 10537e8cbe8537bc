"""ABD: a generator inverted from the old model, and losses that keep real and replayed images from being told apart.

Smith et al., "Always Be Dreaming: A New Approach for Data-Free Class-Incremental Learning", ICCV 2021, arXiv
2106.09701. Weights and schedule of its code for CIFAR-100. source: another method's images in place of its own, e.g.
abd[source=cmi]; they come from a pool, where its own are drawn anew in every step.

Differs from the code: the generator ends in a sigmoid, as all here, not in a batch norm, its batch norms have torch's
eps, there 0.8 (as told in `gdfq`), and it is new in each phase unless warm=true (the code keeps generator and optimiser
for the whole run); colour is not jittered.
"""

from rgal.methods.parameters import (
    BatchNormWeight,
    ClassWeight,
    DistillationWeight,
    DiversityWeight,
    LearningRate,
    PositiveNumber,
)
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.recipes import from_source, generated_replay, incremental
from rgal.tasks.class_incremental.replay import generator_terms
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.terms import replay_learning


@method("abd", reference="Smith et al., ICCV 2021, arXiv 2106.09701", tasks=("necil",))
def abd(
    source: str = "",
    kd: DistillationWeight = 0.1,
    bn: BatchNormWeight = 50.0,
    oh: ClassWeight = 1.0,
    oh_temperature: PositiveNumber = 1000.0,
    ie: DiversityWeight = 1.0,
    smooth: float = 1e-3,
    lr: LearningRate = 1e-3,
    warm: bool = False,
) -> Recipe:
    host = incremental(*replay_learning(kd), spec=IncrementalSpec(warm=warm))
    return from_source(
        source, generated_replay(host, generator_terms(oh, oh_temperature, ie, bn, smooth), lr)
    )
