"""Fine-tuning: the model goes on with the new classes and nothing holds the old ones. The lower reference.

classes: "all" (default) is cross-entropy over all classes so far, as ABD's "Base" row has it; "new" over the new ones
alone, as PyCIL does, so that no gradient reaches the old rows of the classifier.
"""

from typing import Literal

from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.terms import local_cross_entropy, seen_cross_entropy


@method("finetune", reference="training on the new classes alone (lower reference)", tasks=("necil",))
def finetune(classes: Literal["all", "new"] = "all") -> Recipe:
    return incremental(seen_cross_entropy() if classes == "all" else local_cross_entropy())
