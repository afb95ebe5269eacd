"""The raw frame as a witness of its light: every lamp leaves a shape of its own on the field, known from the flat.

The photometric checksum cannot tell some orders of lights from the right one; the brightness of blocks can.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.core.blocks import block_means
from edge.core.calibration import Calibration
from edge.core.types import Frame

DARK = 0.2
"""A frame with less than this part of its lamp's usual light was exposed by a lamp that did not fire."""
_SURE = 0.6
_LEAST_CONTRAST = 0.02

Testimony = Literal["agrees", "dark", "other light"]


class LightWitness:
    """Compares frames with the flat field of the light they claim and of all others."""

    def __init__(self, calibration: Calibration) -> None:
        self._shapes: NDArray[np.float64] | None = None
        if calibration.flat is None or calibration.dark is None:
            return
        blocks = np.stack(
            [block_means(flat - dark) for flat, dark in zip(calibration.flat, calibration.dark, strict=True)]
        )
        self._levels = blocks.mean(axis=(1, 2))
        self._dark_levels = calibration.dark.mean(axis=(1, 2))
        self._shapes = blocks / self._levels[:, None, None]
        offsets = (self._shapes - self._shapes.mean(axis=0)).reshape(len(blocks), -1)
        self._telling = np.linalg.svd(offsets, full_matrices=False)[2][: len(blocks) - 1]

    def testify(self, frame: Frame) -> Testimony:
        """ "dark" or "other light" only where there is no doubt; without a flat field every frame agrees."""
        if self._shapes is None:
            return "agrees"
        blocks = frame.block_means - self._dark_levels[frame.light]
        level = blocks.mean()
        if level < DARK * self._levels[frame.light]:
            return "dark"
        distance = np.sqrt(((blocks / level - self._shapes) ** 2).mean(axis=(1, 2)))
        claimed = distance[frame.light]
        if claimed > _LEAST_CONTRAST and distance.min() < _SURE * claimed:
            return "other light"
        return "agrees"

    def lit_by(self, means: NDArray[np.float64]) -> int | None:
        """The light that the image was lit by whose block means these are; None where there is doubt, too little light
        or no flat field.

        Only how the lights' shapes differ from each other is compared: what else is in the image is the web.
        """
        if self._shapes is None:
            return None
        blocks = means - self._dark_levels[:, None, None]
        levels = blocks.mean(axis=(1, 2))
        if (levels < DARK * self._levels).any():
            return None
        offsets = (blocks / levels[:, None, None] - self._shapes).reshape(len(blocks), -1)
        distance = np.sqrt(((offsets @ self._telling.T) ** 2).sum(axis=1) / offsets.shape[1])
        likely, next_likely = np.argsort(distance)[:2]
        doubtless = distance[next_likely] > _LEAST_CONTRAST and distance[likely] < _SURE * distance[next_likely]
        return int(likely) if doubtless else None
