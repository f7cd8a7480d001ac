"""Numbers that say what an image looks like, as inputs of other rankers.

`colour_layout` needs no trained model: colours and contrast, of the whole and by place. What a
checkpoint sees instead is `models.vlm.Eyes`.

Shapes: N = rows, D = numbers of an image, K = inputs made of them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FloatArray = NDArray[np.float32]

SIDE: Final = 32  # pixels; what a look at a thumbnail shows
CELLS: Final = 2  # per side, of the layout
LAYOUT_SIZE: Final = 3 + 3 + 3 * CELLS**2 + 3
# More inputs than these cost a cross network more than they tell it.
MAX_INPUTS: Final = 64
MAX_FITTED_ROWS: Final = 20_000


def colour_layout(image: Image.Image) -> FloatArray:
    """LAYOUT_SIZE numbers of an RGB image.

    Mean and deviation of luma and both chromas, their means by cell, edges across and down, and the
    logarithm of width over height.
    """
    small = image.convert("YCbCr").resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32) / 255
    cells = pixels.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS, 3).mean(axis=(1, 3))
    luma = pixels[:, :, 0]
    edges = [np.abs(np.diff(luma, axis=axis)).mean() for axis in (0, 1)]
    shape = np.log(image.width / image.height)
    return np.concatenate(
        [pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1)), cells.ravel(), [*edges, shape]]
    ).astype(np.float32)


@dataclass(frozen=True)
class VisualInputs:
    """From what an image looks like to inputs of about unit size.

    Attributes:
        mean: float32 (D,).
        directions: float32 (D, K - 1), the directions in which images differ most, scaled.
    """

    mean: FloatArray
    directions: FloatArray

    @classmethod
    def fitted(cls, visual: NDArray[np.floating]) -> "VisualInputs":
        """On the images (N, D) of the fit fold; N is at least 1."""
        step = max(1, len(visual) // MAX_FITTED_ROWS)
        values = np.asarray(visual[::step], dtype=np.float64)
        mean = values.mean(axis=0)
        spread, vectors = np.linalg.eigh(np.atleast_2d(np.cov(values - mean, rowvar=False, ddof=0)))
        # Directions without any spread are rounding errors.
        is_kept = spread > 1e-8 * max(float(spread.max()), 1e-12)
        kept = np.flatnonzero(is_kept)[::-1][:MAX_INPUTS]
        directions = vectors[:, kept] / np.sqrt(spread[kept])
        # The sign of a direction is the solver's choice.
        largest = np.abs(directions).argmax(axis=0)
        directions *= np.sign(directions[largest, np.arange(len(kept))])
        return cls(mean.astype(np.float32), directions.astype(np.float32))

    @property
    def n_inputs(self) -> int:
        """K."""
        return int(self.directions.shape[1]) + 1

    def __call__(self, visual: NDArray[np.floating], row: NDArray[np.int64]) -> FloatArray:
        """Inputs (N, K) of these rows; -1 is no image: all 0. The last says that there is one."""
        inputs = np.zeros((len(row), self.n_inputs), dtype=np.float32)
        has_image = row >= 0
        used, which = np.unique(row[has_image], return_inverse=True)
        values = np.asarray(visual[used], dtype=np.float32) - self.mean
        inputs[has_image, :-1] = (values @ self.directions)[which]
        inputs[has_image, -1] = 1
        return inputs
