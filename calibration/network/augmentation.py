"""What a patch looks like turned over: photometric stereo knows which way up its web was.

The symmetries are those of a square. A mirrored or turned web has its normals' components mirrored or turned with it,
and meets the lights in another order, which is what the sign of the checksum hangs on: for four lights on the
diagonals it is (1, -1, 1, -1) / 2, which a mirror along an axis and a quarter turn reverse, and a half turn does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.types import F32, U8

Web = tuple[F32, U8]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Symmetry:
    """Transposed first, then mirrored along x (columns) and y (rows), each if so."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    def of_surface(self, surface: F32, channels: Sequence[str]) -> F32:
        """The surface (C,H,W) of the web that lies so, with channels of these names."""
        turned = self.of_plane(surface)[[self._source(channels, name) for name in channels]]
        turned *= np.array([self._sign(name) for name in channels], np.float32)[:, None, None]
        return turned

    def of_plane(self, plane: NDArray[Value]) -> NDArray[Value]:
        """Values (...,H,W) that do not depend on which way up the web lies, moved to where they are then."""
        moved = plane.swapaxes(-1, -2) if self.transposed else plane
        return moved[..., :: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]

    def _source(self, channels: Sequence[str], name: str) -> int:
        exchanged = {"normal_x": "normal_y", "normal_y": "normal_x"} if self.transposed else {}
        return channels.index(exchanged.get(name, name))

    def _sign(self, name: str) -> int:
        reversed_ = {
            "normal_x": self.mirrored_x,
            "normal_y": self.mirrored_y,
            "residual": self.mirrored_x != self.mirrored_y,
        }
        return -1 if reversed_.get(name, False) else 1


MIRRORS = tuple(Symmetry(False, x, y) for x, y in product((False, True), repeat=2))
"""The web seen from any side, its transport along y."""
SYMMETRIES = tuple(Symmetry(t, x, y) for t, x, y in product((False, True), repeat=3))


@dataclass(frozen=True)
class Augmentation:
    """How patches are changed at random.

    `zoom`: the side of what becomes a patch is up to so many times larger or smaller; `gain`: brightness times or
    divided by up to 1 + so much; `offset`: up to so many of the channels' values added or taken away. Images smaller
    than what is to be cut are continued by their mirror image where `continued`.
    """

    symmetries: tuple[Symmetry, ...] = MIRRORS
    zoom: float = 1.0
    gain: float = 0.0
    offset: float = 0.0
    continued: bool = False

    def side(self, patch: int, random: np.random.Generator) -> int:
        """Side of what becomes a patch, in pixels."""
        return patch if self.zoom == 1 else round(patch * self.zoom ** random.uniform(-1, 1))

    def __call__(self, web: Web, channels: Sequence[str], patch: int, random: np.random.Generator) -> Web:
        """A patch of a cut square: surface (C,patch,patch) f32 and truth (patch,patch) u8."""
        surface, truth = web
        if truth.shape != (patch, patch):
            how = cv2.INTER_AREA if truth.shape[0] > patch else cv2.INTER_LINEAR
            surface = np.stack([cv2.resize(plane, (patch, patch), interpolation=how) for plane in surface])
            truth = cv2.resize(truth, (patch, patch), interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)
        symmetry = self.symmetries[random.integers(len(self.symmetries))]
        surface, truth = symmetry.of_surface(surface, channels), symmetry.of_plane(truth)
        if self.gain or self.offset:
            gain = (1 + self.gain) ** random.uniform(-1, 1)
            surface = surface * np.float32(gain) + np.float32(self.offset * random.uniform(-1, 1))
        return surface, truth


OF_PHOTOGRAPHS = Augmentation(MIRRORS, zoom=1.5, gain=1.0, offset=0.05, continued=True)
"""For images without normals, of any size, values 0 to 1. Rolling and grinding leave stripes along transport: a quarter
turn would make a web that there is none of."""


def augmentation_for(channels: Sequence[str]) -> Augmentation:
    """What does surfaces or photographs with channels of these names no harm."""
    return OF_PHOTOGRAPHS if are_photographs(channels) else Augmentation()


def continued(image: F32, grid: int, mirrored: bool) -> F32:
    """An image (C,H,W) whose height and width are multiples of `grid`: below and on the right it goes on with its
    mirror image where `mirrored`, as photographs do in training, else its last row and column are repeated, as the
    line does with a web. Repeated rows are streaks, which on a photograph may be a defect."""
    beyond = ((0, 0), (0, -image.shape[1] % grid), (0, -image.shape[2] % grid))
    return np.pad(image, beyond, mode="symmetric") if mirrored else np.pad(image, beyond, mode="edge")


def are_photographs(channels: Sequence[str]) -> bool:
    """Whether images with channels of these names hold brightness alone, no normals."""
    return not any(name.startswith("normal_") for name in channels)
