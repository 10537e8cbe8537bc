"""LwF: new classes by cross-entropy, old ones by what the old model says of the new images.

Li & Hoiem, "Learning without Forgetting", ECCV 2016, arXiv 1606.09282, in the class-incremental form of PyCIL:
cross-entropy over the new classes plus 3 times soft cross-entropy over the old ones, T = 2, without the factor T^2.
The schedule is ABD's; PyCIL's steps are at epochs 60, 120, 180 and 220 of 250.
"""

from rgal.methods.parameters import DistillationWeight, Temperature
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.terms import local_cross_entropy, old_logit_distillation


@method("lwf", reference="Li & Hoiem, ECCV 2016, arXiv 1606.09282", tasks=("necil",))
def lwf(kd: DistillationWeight = 3.0, temperature: Temperature = 2.0) -> Recipe:
    return incremental(local_cross_entropy(), old_logit_distillation(kd, temperature))
