"""Reference row: the model goes on with the real images of all classes so far. An upper bound, not exemplar-free."""

from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.terms import seen_cross_entropy


@method("joint", reference="real images of all classes so far (upper reference)", tasks=("necil",))
def joint() -> Recipe:
    return incremental(seen_cross_entropy(), spec=IncrementalSpec(joint=True))
