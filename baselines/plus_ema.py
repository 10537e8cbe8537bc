"""A game whose student also sees the images of a slow copy of the generator: half of each batch is of either.

After Do et al., "Momentum Adversarial Distillation" (MAD), NeurIPS 2022, which is known here from summaries alone:
the copy moves by a -> .95 a + .05 g after each step of the generator, and both halves weigh the same. Its divergence,
the weights of its two parts, its numbers of steps, its conditional form for large data sets with a bound on
embeddings are not known here: the game is one of this suite, `host`, under its own numbers (ZSKT's is nearest to
MAD's base). This is no reproduction of MAD, and no published number stands beside it.
"""

from dataclasses import replace
from typing import Annotated, Literal

from rgal.baselines.adversarial_dfq import adversarial_dfq
from rgal.baselines.dafl import dafl
from rgal.baselines.dfad import dfad
from rgal.baselines.zskt import zskt
from rgal.methods.parameters import LearningRate, Meaning
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.synthesis.generators import PersistentGenerator

HOSTS = {"dafl": dafl, "zskt": zskt, "dfad": dfad, "adversarial_dfq": adversarial_dfq}


@method(
    "plus_ema",
    reference="after Do et al., NeurIPS 2022 (MAD); a stand-in",
    budgets={"small": {"synthesis_steps": 36, "synthesis_lr": 0.005}},
)
def plus_ema(
    host: Literal["dafl", "zskt", "dfad", "adversarial_dfq"] = "zskt",
    momentum: Annotated[float, Meaning("share of itself that the copy keeps in each step")] = 0.95,
    lr: LearningRate = 1e-3,
) -> Recipe:
    recipe = HOSTS[host](lr=lr)
    assert isinstance(recipe.images, PersistentGenerator)
    return replace(recipe, images=replace(recipe.images, slow=momentum))
