"""DAFL: a generator of images that the teacher is sure of, that excite its features and that cover its classes.

Chen et al., "Data-Free Learning of Student Networks", ICCV 2019, arXiv 1904.01186. The student is not asked.

follows: "code" (default) is CMI's copy of the method, to which the published numbers of our pairs belong: its weights,
and five student steps on fresh draws of the large generator for each generator step; its KL has T = 1, although the
script says 20. "paper" has the paper's weights of the two terms (act 0.1, ie 5) and its joint step: one student step
per generator step, on the same images. Generator and optimisers are CMI's either way.
"""

from rgal.methods.parameters import ClassWeight, DiversityWeight, LearningRate, Temperature
from rgal.methods.recipe import Recipe, alternating
from rgal.methods.registry import method
from rgal.methods.rgal_options import Follows
from rgal.synthesis.generators import PersistentGenerator
from rgal.synthesis.image_source import Adam
from rgal.terms.game import activation, confident, information_entropy
from rgal.terms.transfer import distillation

WEIGHTS = {"code": (1e-3, 20.0), "paper": (0.1, 5.0)}


@method("dafl", reference="Chen et al., ICCV 2019, arXiv 1904.01186")
def dafl(
    follows: Follows = "code",
    oh: ClassWeight = 1.0,
    act: float | None = None,
    ie: DiversityWeight | None = None,
    lr: LearningRate = 1e-3,
    temperature: Temperature = 1.0,
) -> Recipe:
    own_act, own_ie = WEIGHTS[follows]
    return alternating(
        PersistentGenerator(latent=512, large=True),
        (
            confident(oh),
            activation(own_act if act is None else act),
            information_entropy(own_ie if ie is None else ie),
        ),
        (distillation(temperature=temperature),),
        Adam(lr, (0.5, 0.999)),
        student_steps=5 if follows == "code" else 1,
        source="generator" if follows == "code" else "batch",
    )
