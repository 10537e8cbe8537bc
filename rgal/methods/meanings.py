"""What parameters of our methods mean where their annotation does not say it; a plug-in's annotations do.

They stand here and not in the methods' files, where a further import would change the keys of stored trials.
"""

from __future__ import annotations

from rgal.methods.parameters import Parameter

# Of a name in every method that has it.
_EVERYWHERE = {
    "act": "weight of what makes the teacher's features large",
    "alignment": "weight of the distance between channel energies of teacher and student",
    "bn_momentum": "share of earlier rounds in the batch statistics that are matched",
    "crop": "least share of an image that a crop keeps; 1: no crops",
    "deviation": "width of the low-pass filter, in pixels of an image of 224",
    "draws": "samples of old classes in each step",
    "eps": "how far pixels are moved to make an image harder, in normalised units",
    "follows": "paper: as the paper says; code: as the released code does",
    "host": "the method that it changes",
    "jitter": "by how many pixels images of 32 pixels are shifted; in proportion at other sizes",
    "l2": "weight of the norm of the image",
    "oh_temperature": "temperature of the class term",
    "patches": "weight of what is asked of an image's patches",
    "proto": "weight of the cross-entropy of samples around old class means",
    "ridge": "how strongly the map between extractors is drawn towards the identity",
    "smooth": "weight of the difference of images from their blur",
    "source": "method whose images take the place of its own; empty: its own",
    "temperature": "temperature of the contrast",
    "weight_decay": "weight decay of the student",
}
_TEMPERATURE = "divides the logits of the classifier in training"
_RIDGE = "ridge of the classifier"
_FOCAL = "exponent by which unsure images count more"
# Of one method, where it differs from the above or no other has the name.
_OF_METHOD = {
    "abd": {"warm": "go on with the generator from phase to phase, which then counts as kept"},
    "acil": {"gamma": _RIDGE},
    "adadfq": {
        "margin": "weight of what keeps the disagreement between its bounds",
        "lower": "lower bound of the disagreement, in [0, 1]",
        "upper": "upper bound of the disagreement, in [0, 1]",
        "disagree": "weight of the class term on teacher minus student",
        "agree": "weight of the class term on teacher plus student",
    },
    "adagauss": {
        "collapse": "weight of what keeps the covariance of features from losing rank",
        "drift_steps": "steps of the net that takes old features to new ones",
        "samples": "samples of old classes that go through that net",
    },
    "adaptive_deepinversion": {"follows": "paper: the parameters of the paper; code: those of the README's command"},
    "adc": {"alpha": "length of a step of the attack, in normalised pixels"},
    "ait": {"threshold": "share of a layer's weights whose integer each step is to change; falls with the step size"},
    "cmi": {
        "cr": "weight of the contrast with other and earlier images",
        "cr_temperature": "temperature of the contrast",
        "bank": "earlier images that the memory holds",
    },
    "cpsc": {
        "follows": "paper: one Adam for all steps of the generator; code: a new one in each step",
        "form": "distance of logits: its square, or the logarithm of it",
        "contrast": "weight of the contrast of classes across both networks' features",
    },
    "dafl": {"follows": "code: weights and steps of CMI's copy; paper: the paper's weights and its joint step"},
    "deepinversion": {
        "variant": "cifar: CMI's script; imagenet: the authors' code for ImageNet. `none` below: its own value",
    },
    "dpcr": {"gamma": _RIDGE},
    "efcpp": {
        "importance": "weight of the distance of features where outputs depend on them",
        "damping": "weight of the distance of features everywhere",
        "sigma": "width of the kernel by which class means follow the drift",
        "epochs": "passes in which the classifier is trained last",
        "head_lr": "learning rate of the classifier in these passes",
    },
    "fast": {
        "k": "synthesis steps of a batch; 2, 5 and 10 have published step sizes",
        "form": "how the meta-generator follows: fomaml by the last gradient, reptile by the distance moved",
        "reset": "round in which the meta-generator's first layer is drawn anew",
        "lr_z": "learning rate of the codes; none: the published one of k",
    },
    "fcs": {
        "transfer": "weight of the layer that carries old features to new ones",
        "contrast": "weight of the contrast of classes, with noisy means of old ones",
        "temperature": _TEMPERATURE,
    },
    "fetril": {"classifier": "svc: a support vector machine for each class; fc: its linear variant"},
    "finetune": {"classes": "of the cross-entropy: all classes so far, or the new ones alone"},
    "genie": {"rounding": "weight of what draws the rounding of each weight to a decision, up or down"},
    "given": {"train": "false: nothing is trained; dfq then takes its ranges from the images"},
    "hast": {"gamma": _FOCAL},
    "intraq": {
        "inception": "weight of what asks for different confidences within a class",
        "low": "least confidence that is asked for",
        "margin": "weight of what keeps features at a distance from their class's mean",
        "lower": "lower bound of that cosine distance",
        "upper": "upper bound of that cosine distance",
    },
    "napa_vq": {"proto": "weight of the cross-entropy of mixtures of old class means", "temperature": _TEMPERATURE},
    "nayer": {
        "embeddings": "file with an embedding of each class; empty: orthogonal ones",
        "life": "rounds that a generator lives",
    },
    "pass": {
        "temperature": _TEMPERATURE,
        "noise": "around old class means: one radius for all (PASS), or each class's covariance (IL2A)",
    },
    "praka": {"proto": "weight of mixtures of old class means with new features", "temperature": _TEMPERATURE},
    "psaq_vit": {"points": "points at which the density of similarities is sampled"},
    "qimera": {
        "mixing": "share of the batches that mix classes",
        "labels": "classes that a mixed image has",
        "latent": "length of the codes",
    },
    "r_dfcil": {
        "hkd": "weight of keeping old logits on replayed images",
        "rkd": "weight of keeping the angles between features of new images",
        "refine": "share of the steps after which the classifier alone is trained",
    },
    "synq": {
        "gamma": _FOCAL,
        "threshold": "largest 1 - p of the label, p the teacher's probability, at which an image's label is taught",
        "cam": "weight of seeing the class where the teacher sees it",
        "hard": "weight of the loss on the images that were made harder",
    },
    "zskt": {
        "follows": "code: steps of CMI's copy; paper: ten on the generator's own images, and attention transfer",
        "at": "weight of attention transfer; none: 250 if follows=paper, else 0",
    },
}  # fmt: skip


def meaning_of(method: str, parameter: Parameter) -> str:
    """Return what a parameter of a method means: what its annotation says, else what stands here, else ""."""
    own = _OF_METHOD.get(method, {})
    return parameter.meaning or own.get(parameter.name) or _EVERYWHERE.get(parameter.name, "")
