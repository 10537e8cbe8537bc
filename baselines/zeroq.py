"""ZeroQ: pixels whose statistics, image by image, are those of the batch norms. They set the ranges; no training.

Cai et al., "ZeroQ: A Novel Zero Shot Quantization Framework", CVPR 2020, arXiv 2001.00281. Its code starts from noise
of deviation 0.014, divides the step size of 0.5 by ten on plateaus and does not clip; ours starts from N(0,1), keeps
the step size and clips pixels to valid images. The mixed-precision search of the paper is not in its code, nor here.
"""

from rgal.methods.parameters import BatchNormWeight, LearningRate
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.image_source import Adam
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.views import identity
from rgal.terms.inversion import bn_statistics


@method("zeroq", reference="Cai et al., CVPR 2020, arXiv 2001.00281", tasks=("dfq",))
def zeroq(bn: BatchNormWeight = 1.0, lr: LearningRate = 0.5) -> Recipe:
    return Recipe(
        images=Pixels(),
        views={"global": identity},
        synthesis=(bn_statistics(bn, "images"),),
        transfer=(),
        optimiser=Adam(lr, (0.9, 0.999)),
        rounds=Rounds(1, synthesis_steps=500, student_steps=0, synthesis_batch=64, batch=64),
    )
