"""The network that is given: what is known of it and of its images, without any of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from rgal.api.networks import describe_network, own_copy
from rgal.api.surroundings import undisturbed
from rgal.core.domain import describe_domain, domain_text, normalisation
from rgal.core.errors import UserError
from rgal.core.problem import Domain, Problem
from rgal.data.batches import to_float
from rgal.data.unlabelled import read_unlabelled
from rgal.engine.evaluation import logits_of
from rgal.nets.checkpoint import load_weights
from rgal.nets.preprocessing import preprocessing, preprocessing_of
from rgal.suite.running.devices import choose_device
from rgal.suite.running.teachers import build_net


class Teacher:
    """Hold a trained classifier and what is known of its images. No data set is needed.

    `print(teacher)` lists the layers, the head and the norms that were found. The network is copied: what you do with
    yours later changes nothing here, and nothing here changes yours.

    Args:
        net: an `nn.Module` from normalised images (N,C,H,W) to logits (N, classes); or the name of one that `weights`
            are for, such as "resnet20", "torchvision:resnet18" or "my_nets:small".
        image: (C, H, W) of its images, one or three channels.
        classes: number of classes.
        mean, std: by which pixels in [0,1] are normalised, a number for all channels or one for each.
        normalise: "imagenet", "cifar10" or "none" in place of them. With neither, what timm or torchvision say of the
            network; else 0.5 and 0.5, and `print(teacher)` calls that a guess.
        flip: whether a mirrored image keeps its label.
        crop_padding: pixels by which random crops pad each side; None: an eighth of the shorter side.
        weights: a file for a network that is named, `.safetensors` or `.pth`. Nothing in it is executed.
        name, dataset: what the command line calls the network and its data. Random draws depend on both.
        device: "cpu", "cuda", "cuda:N" or "auto"; None: where the network is.

    Raises:
        UserError: the network cannot classify such images, or a number makes no sense.
    """

    def __init__(
        self,
        net: nn.Module | str,
        image: Sequence[int] | str,
        classes: int,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        *,
        normalise: str | None = None,
        flip: bool = True,
        crop_padding: int | None = None,
        weights: str | Path | None = None,
        name: str | None = None,
        dataset: str = "none",
        device: str | torch.device | None = None,
    ) -> None:
        given = normalisation(_numbers("mean", mean), _numbers("std", std), normalise)
        if given is None:
            known = preprocessing(net) if isinstance(net, str) else preprocessing_of(net)
            given = known.normalised if known else None
        domain = describe_domain(image, classes, given, flip)
        if crop_padding is not None:
            if isinstance(crop_padding, bool) or not isinstance(crop_padding, int) or crop_padding < 0:
                raise UserError(
                    f"crop_padding {crop_padding!r}: expected a whole number of pixels, 0 or more"
                )
            domain = replace(domain, crop_padding=crop_padding)
        self.domain: Domain = domain
        self.name = name or (net if isinstance(net, str) else type(net).__name__)
        self.dataset = dataset
        place = _device_of(net) if device is None else as_device(device)
        with undisturbed(place):
            self.net = _network(net, weights, self.name, domain, place)
        self.problem = Problem(self.net, domain, place)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.problem.device

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.domain.classes

    def to(self, device: str | torch.device | None) -> Teacher:
        """Return this teacher on a device: itself if it is there, else a copy. None: itself."""
        wanted = self.device if device is None else as_device(device)
        if wanted == self.device:
            return self
        return Teacher._of(self, own_copy(self.net, self.name, self.domain, wanted), self.domain, self.name)

    def with_student(self, net: nn.Module, name: str, domain: Domain) -> Teacher:
        """Return another network as a teacher for the images of this one; it is copied."""
        device = next(net.parameters()).device
        return Teacher._of(self, own_copy(net, name, domain, device), domain, name)

    @classmethod
    def _of(cls, origin: Teacher, net: nn.Module, domain: Domain, name: str) -> Teacher:
        """Make a teacher of a network that is ours already."""
        made = cls.__new__(cls)
        made.domain, made.name, made.dataset, made.net = domain, name, origin.dataset, net
        made.problem = Problem(net, domain, next(net.parameters()).device)
        return made

    def logits(self, images: Tensor | str | Path) -> Tensor:
        """Return the logits (N, classes), on the host, of images (N,C,H,W), uint8 or in [0,1], or of a folder's."""
        pixels = as_pixels(images, self.domain)
        with undisturbed(self.device):
            return logits_of(self.net, pixels, self.domain)

    def normalise(self, images: Tensor) -> Tensor:
        """Return what the network takes for images (N,C,H,W), uint8 or in [0,1]."""
        return self.domain.normalise(to_float(images) if images.dtype == torch.uint8 else images)

    def __repr__(self) -> str:
        with undisturbed(self.device):
            found = describe_network(self.net, self.domain)
        lines = [f"Teacher {self.name}", domain_text(self.domain), *found]
        return "\n  ".join(lines)


def as_device(device: str | torch.device) -> torch.device:
    """Return a device that exists, with its index. Raises UserError otherwise."""
    made = torch.device(choose_device(str(device)))
    return torch.device("cuda", torch.cuda.current_device()) if made == torch.device("cuda") else made


def as_pixels(images: object, domain: Domain) -> Tensor:
    """Return images as uint8 (N,C,H,W) on the host: a tensor, or every image file below a folder, resized and cut.

    Raises:
        UserError: they are no images of the domain, or cannot be read.
    """
    if isinstance(images, str | Path):
        try:
            return read_unlabelled(Path(images).expanduser(), domain.shape)
        except UserError as error:
            raise UserError(str(error).replace("--calibration", "images", 1)) from error
    shape = "x".join(map(str, domain.shape))
    if not isinstance(images, Tensor):
        raise UserError(
            f"images are a {type(images).__name__}, expected a folder, or a tensor (N,{shape.replace('x', ',')})"
        )
    if images.ndim != 4 or tuple(images.shape[1:]) != domain.shape or not len(images):
        raise UserError(
            f"images are {tuple(images.shape)}, expected (N,{shape.replace('x', ',')}) with N from 1 on"
        )
    if images.dtype == torch.uint8:
        return images.detach().cpu()
    values = images.detach().float()
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"images are {images.dtype} from {low:g} to {high:g}, expected uint8, or numbers in [0,1]: "
            "not normalised, as that is done here"
        )
    return values.mul(255).add_(0.5).to(torch.uint8).cpu()


def _numbers(what: str, value: object) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        values = value.tolist() if hasattr(value, "tolist") else value
        return tuple(map(float, values)) if isinstance(values, (list, tuple)) else (float(values),)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} {value!r}: expected a number, or one for each channel") from error


def _network(
    net: nn.Module | str, weights: str | Path | None, name: str, domain: Domain, device: torch.device
) -> nn.Module:
    """Return the copy of a network that is given, or the one that is named with the weights in a file."""
    if not isinstance(net, str):
        if weights is not None:
            raise UserError(f"weights {weights}: are for a network given by name; expected none for a {name}")
        return own_copy(net, name, domain, device)
    if weights is None:
        raise UserError(f"net '{net}': a network given by name needs weights=FILE; none are downloaded")
    made = build_net(net, domain, device, 0)
    load_weights(made, weights, domain.classes)
    return own_copy(made, name, domain, device)


def _device_of(net: object) -> torch.device:
    """Return where a network's first parameter is; the host for what has none, which is refused later."""
    parameter = next(net.parameters(), None) if isinstance(net, nn.Module) else None
    return torch.device("cpu") if parameter is None or parameter.is_meta else parameter.device
