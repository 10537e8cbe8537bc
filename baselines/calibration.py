"""Row of given real images: activation ranges from them alone (`--calibration DIR`), no training. Not data-free."""

from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method


@method("calibration", reference="ranges from given real images (--calibration), no training", tasks=("dfq",))
def calibration() -> Recipe:
    return Recipe(images=None, transfer=(), rounds=Rounds(1, 0, 0, batch=64))
