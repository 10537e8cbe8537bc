"""ACIL: an extractor that is never trained again, and a ridge classifier of all images so far, on random features.

Zhuang et al., "ACIL: Analytic Class-Incremental Learning with Absolute Memorization and Privacy Protection", NeurIPS
2022, arXiv 2205.14922. Its code (shared with GACL) maps features to relu(f U), U of K = 8192 random columns (16384 for
ImageNet) that are never trained, gamma 0.1, and fits the first phase as any other.

Differs from the code: the sums G and Q over all images are kept and solved once a phase in float64, in place of the
recursion for the inverse, which they equal in exact arithmetic; the first phase's extractor is the one that all methods
share, there 300 epochs with TrivialAugment; images are fitted without augmentation in both. The small budget takes
K = 1024. `+rgal` has nothing to train here and is refused.
"""

from typing import Annotated

from rgal.methods.parameters import Meaning, PositiveNumber
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.scoring import Ridge
from rgal.tasks.class_incremental.spec import IncrementalSpec


# No step is taken after the first phase. main.py: --buffer-size 8192, --gamma 0.1.
@method(
    "acil",
    reference="Zhuang et al., NeurIPS 2022, arXiv 2205.14922",
    tasks=("necil",),
    budgets={"smoke": {"parameters": {"expand": 32}}, "small": {"parameters": {"expand": 1024}}, "paper": {}},
)
def acil(
    gamma: PositiveNumber = 0.1,
    expand: Annotated[int, Meaning("K, random features; 0: the features themselves")] = 8192,
) -> Recipe:
    spec = IncrementalSpec(frozen=("extractor",), keeps=("gram", "cross"), classifier=Ridge(gamma, expand))
    return incremental(spec=spec, steps=0)
