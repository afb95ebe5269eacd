"""What lamps give against each other, told from block means: how much one has changed, where, and whose light it is.

On web that is flat on the whole each light's corrected brightness is the same number everywhere. One lamp that changes
leaves a trace in the checksum of the means, as neither slopes nor stains nor a dirty lens do: its change is what, taken
back, makes all lights alike again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.core.blocks import BLOCKS_ACROSS, block_means
from edge.core.calibration import Calibration
from edge.core.types import Frame

F64 = NDArray[np.float64]

_LEAST_FREEDOM = 1e-3
_SURE = 0.5
"""One lamp is named where what is left without its change is less than this part of it."""
_LIKE_ANOTHER = 0.7
_LEAST_SPREAD = 0.02
"""Shapes of two lights that differ by less do not tell one from the other."""


@dataclass(frozen=True)
class Change:
    """What one lamp, `light`, would have changed by: `part` of its light, and `uneven` across the field, both relative
    to the other lamps. `alone`: this explains what is seen."""

    light: int
    part: float
    uneven: float
    alone: bool


class LampShares:
    """Corrected block means of frames, and what they tell of lamps. Blocks are (along, across).

    Raises ValueError for a calibration without a flat field.
    """

    def __init__(self, calibration: Calibration) -> None:
        if calibration.flat is None or calibration.dark is None:
            raise ValueError("nothing to compare with: the calibration has no flat field")
        lights = calibration.lights
        self._dark = np.stack([block_means(dark) for dark in calibration.dark])
        self._flat = np.stack([block_means(flat) for flat in calibration.flat]) - self._dark
        columns = ((np.arange(BLOCKS_ACROSS) + 0.5) * calibration.width / BLOCKS_ACROSS).astype(np.intp)
        g = (calibration.light_directions / calibration.light_directions[:, 2:])[:, :, columns].transpose(2, 0, 1)
        inverse = np.linalg.pinv(g).astype(np.float64)
        self._inverse: F64 = inverse[BLOCKS_ACROSS // 2]
        self._across = np.eye(lights) - g @ inverse
        own = self._across.diagonal(axis1=1, axis2=2)
        self._per_change = np.divide(1.0, own, out=np.zeros_like(own), where=own > _LEAST_FREEDOM)
        ratios = (self._flat / self._flat[:, None]).reshape(lights, lights, -1)
        self._contrast = ratios - ratios.mean(axis=2, keepdims=True)
        spread = (self._contrast**2).sum(axis=2)
        telling = spread > _LEAST_SPREAD**2 * ratios.shape[2]
        self._per_spread = np.divide(1.0, spread, out=np.zeros_like(spread), where=telling)

    def blocks(self, frame: Frame) -> F64:
        """Of a frame, corrected by the flat field of its light."""
        corrected: F64 = (frame.block_means - self._dark[frame.light]) / self._flat[frame.light]
        return corrected

    def levels(self, blocks: F64) -> F64:
        """Of blocks (n, along, across), by how bright the flat field is there: (n,)."""
        levels: F64 = (blocks * self._flat).mean(axis=(1, 2)) / self._flat.mean(axis=(1, 2))
        return levels

    def slope(self, levels: F64) -> F64:
        """Slope (2,), along x and y, that web lying flat would seem to have by the lights' levels (n,)."""
        x, y, z = self._inverse @ levels
        slope: F64 = np.array([x, y]) / z
        return slope

    def change(self, blocks: F64) -> Change:
        """The one lamp whose change explains the blocks (n, along, across) best. Three lights tell of none."""
        columns = blocks.mean(axis=1)
        shares = columns / np.median(columns, axis=0)
        changes = np.einsum("bkj,jb->kb", self._across, shares) * self._per_change.T
        left = np.repeat(shares[None], len(shares), axis=0)
        each = np.arange(len(shares))
        left[each, each] -= changes
        spread = np.sqrt(((left - left.mean(axis=1, keepdims=True)) ** 2).mean(axis=(1, 2)))
        light = int(spread.argmin())
        part = float(changes[light].mean())
        return Change(light, part, float(np.ptp(changes[light])), bool(spread[light] < _SURE * abs(part)))

    def mixed(self, blocks: F64) -> Iterator[tuple[int, int, float]]:
        """Lights whose blocks (n, along, across) bear the shape of another light: both, and that one's part."""
        flat = blocks.reshape(len(blocks), -1)
        others = (flat.sum(axis=0) - flat) / (len(flat) - 1)
        shape = flat / others
        shape -= shape.mean(axis=1, keepdims=True)
        common = np.einsum("kb,kjb->kj", shape, self._contrast)
        likeness = common**2 * self._per_spread / np.maximum((shape**2).sum(axis=1), np.finfo(np.float64).tiny)[:, None]
        part = common * self._per_spread
        likeness[part <= 0] = 0
        for light, other in enumerate(likeness.argmax(axis=1)):
            if likeness[light, other] > _LIKE_ANOTHER:
                yield light, int(other), float(part[light, other])
