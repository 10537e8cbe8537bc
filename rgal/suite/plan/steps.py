"""Numbers of steps as a suite file may say them: themselves, or by passes over images."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictInt, Tag


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Count = StrictInt


class Epochs(Strict):
    """Say a number of steps by the images there are: passes over those of a phase, or over those a teacher learns.

    drop_last: whether a pass leaves out the images that do not fill a batch, as some authors' loaders do.
    """

    epochs: Count = Field(ge=1)
    drop_last: StrictBool = False

    def steps(self, images: int, batch: int) -> int:
        """Count the steps of `batch` images that these passes over `images` images take.

        >>> Epochs(epochs=101).steps(5000, 64), Epochs(epochs=250, drop_last=True).steps(5000, 128)
        (7979, 9750)
        """
        whole = images // batch if self.drop_last else -(-images // batch)
        return self.epochs * max(1, whole)


NUMBER, FORMULA = "number of steps", "formula of steps"
# Steps as a number or by epochs. What an error says is of the form that was meant.
Steps = Annotated[
    Annotated[Count, Field(ge=1), Tag(NUMBER)] | Annotated[Epochs, Tag(FORMULA)],
    Discriminator(lambda given: FORMULA if isinstance(given, dict | Epochs) else NUMBER),
]


def in_steps(steps: int | Epochs, images: int, batch: int) -> int:
    """Return a number of steps as it is, and count those of a formula."""
    return steps.steps(images, batch) if isinstance(steps, Epochs) else steps
