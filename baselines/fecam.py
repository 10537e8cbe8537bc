"""FeCAM: an extractor that is never trained again, and one Gaussian a class, compared by Mahalanobis distance.

Goswami et al., "FeCAM: Exploiting the Heterogeneity of Class Distributions in Exemplar-Free Continual Learning",
NeurIPS 2023, arXiv 2309.14062. Settings of its three configurations: square roots of the features (Tukey), covariances
shrunk twice by (1, 1) and brought to correlations, unit vectors.

Differs from the code: the first phase is the one that all methods share, there 200 epochs with AutoAugment and a cosine
classifier; it is scored by the Mahalanobis distance too, there by the cosine classifier; where no entry of a covariance
beside its diagonal is other than 0, there 0/0, nothing is added there. The network must end in a ReLU, or take power=1.
`+rgal` has nothing to train here and is refused.
"""

from typing import Annotated

from rgal.methods.parameters import Meaning, Positive
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.scoring import Mahalanobis
from rgal.tasks.class_incremental.spec import IncrementalSpec


# No step is taken after the first phase: no budget has a number to set.
@method(
    "fecam",
    reference="Goswami et al., NeurIPS 2023, arXiv 2309.14062",
    tasks=("necil",),
    budgets={"smoke": {}, "small": {}, "paper": {}},
)
def fecam(
    power: Annotated[float, Positive, Meaning("of each feature, FeCAM's beta")] = 0.5,
    diagonal: Annotated[float, Meaning("shrinkage by the mean variance, alpha1")] = 1.0,
    others: Annotated[float, Meaning("shrinkage by the mean covariance, alpha2")] = 1.0,
) -> Recipe:
    spec = IncrementalSpec(
        frozen=("extractor",),
        keeps=("means", "covariances", "counts"),
        power=power,
        classifier=Mahalanobis(power, (diagonal, others), times=2),
    )
    return incremental(spec=spec, steps=0)
