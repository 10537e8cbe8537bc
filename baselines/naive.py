"""Reference row: a network quantized without looking at anything. Activation ranges from noise, no training."""

from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.pixels import Noise


@method("naive", reference="ranges from noise, no training (lower reference)", tasks=("dfq",))
def naive() -> Recipe:
    return Recipe(images=Noise(), transfer=(), rounds=Rounds(1, 0, 0, synthesis_batch=64, batch=64))
