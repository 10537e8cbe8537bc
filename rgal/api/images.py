"""Synthesised images as a user gets them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from rgal.core.errors import UserError
from rgal.core.problem import Domain
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.pool_files import save_pool

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SynthesisedImages:
    """Hold images that a method made, and the classes that they were made for.

    Attributes:
        images: uint8 (N,C,H,W), on the host.
        labels: int64 (N,).
        method: what made them.
        left_out: terms of the method that look at a student, which there was none of.
        finished: whether all of them were made; False if the callback stopped the call.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        domain: Domain,
        method: str,
        left_out: tuple[str, ...] = (),
        finished: bool = True,
    ) -> None:
        self.images, self.labels, self.domain = images.cpu(), labels.cpu(), domain
        self.method, self.left_out, self.finished = method, left_out, finished

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.domain.shape))
        without = f", without its terms {', '.join(self.left_out)}" if self.left_out else ""
        state = "" if self.finished else ", stopped before the end"
        return f"{len(self)} images {shape} of {self.domain.classes} classes by {self.method}{without}{state}"

    def save(self, folder: str | Path, class_names: Sequence[str] = ()) -> Path:
        """Write the images into a folder, which is made: `pool/<class>/<number>.png`, and all in `pool.safetensors`.

        Either form can start another run (`--init-pool FOLDER`).

        Args:
            folder: where to.
            class_names: in the order of the labels; the folders of classes are then called by them too.

        Returns:
            The folder.

        Raises:
            UserError: it cannot be written.
        """
        folder, pool = Path(folder).expanduser(), ImagePool(self.domain.shape)
        pool.add(self.images, self.labels)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_pool(pool, folder, {"method": self.method}, self.domain.classes, class_names)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from error
        return folder

    def grid(self, per_class: int = 8, class_names: Sequence[str] = ()) -> Figure:
        """Draw the first images of each class, at most ten classes, a row each: a matplotlib figure.

        A notebook shows it; `.savefig("grid.png")` writes it.
        """
        from rgal.analysis.grids import class_grid

        return class_grid(self.images, self.labels, per_class, class_names=class_names)
