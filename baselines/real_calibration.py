"""Reference row: activation ranges from real training images, no training. Not data-free."""

from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method


@method("real_calibration", reference="ranges from real images (reference, not data-free)", tasks=("dfq",))
def real_calibration() -> Recipe:
    return Recipe(images=None, transfer=(), rounds=Rounds(1, 0, 0, batch=64))
