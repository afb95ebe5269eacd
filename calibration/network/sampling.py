"""Training patches out of whole webs.

A web is a pair: surface channels (C,H,W) f32 and truth (H,W) u8, class indices.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.network.augmentation import Augmentation
from edge.core.errors import ConfigError
from edge.core.types import F32, U8

Web = tuple[F32, U8]


class Webs(Protocol):
    """Webs by index, which may be read anew at each access."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: int, /) -> Web: ...
    def __iter__(self) -> Iterator[Web]: ...


class PatchSampler:
    """Draws square patches: half anywhere, half near a defect, changed at random.

    A foil is almost all background: drawn evenly, most patches would teach nothing. Of the defects every class is as
    likely, and of a class every component, or the largest would be all that is learnt. Raises ConfigError for webs that
    do not fit `patch` or `channels`.
    """

    def __init__(
        self,
        webs: Webs,
        channels: Sequence[str],
        classes: int,
        patch: int,
        seed: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._webs = webs
        self._channels = channels
        self._patch = patch
        self._random = np.random.default_rng(seed)
        self._augmentation = Augmentation() if augmentation is None else augmentation
        for surface, truth in webs:
            _check(surface, truth, len(channels), classes, 1 if self._augmentation.continued else patch)
        self.class_pixels = sum(
            (np.bincount(truth.ravel(), minlength=classes) for _, truth in webs), start=np.zeros(classes, np.int64)
        )
        self._area = np.array([truth.size for _, truth in webs], dtype=np.float64)
        self._area /= self._area.sum()
        found: list[list[tuple[int, NDArray[np.int64]]]] = [[] for _ in range(classes)]
        for index, (_, truth) in enumerate(webs):
            for k in np.flatnonzero(np.bincount(truth.ravel())[1:]) + 1:
                found[k].extend((index, pixels) for pixels in _components(truth == k))
        self._components = [of_class for of_class in found if of_class]

    @property
    def state(self) -> str:
        """Where the drawing stands, for `restore`."""
        return json.dumps(self._random.bit_generator.state)

    def restore(self, state: str) -> None:
        """Go on as from `state`."""
        self._random.bit_generator.state = json.loads(state)

    def draw(self, count: int) -> tuple[F32, NDArray[np.int64]]:
        """Patches (count,C,patch,patch) f32 and their truth (count,patch,patch) i64."""
        drawn = [self._draw_one(near_a_defect=index % 2 == 1) for index in range(count)]
        return np.stack([surface for surface, _ in drawn]), np.stack([truth for _, truth in drawn]).astype(np.int64)

    def _draw_one(self, near_a_defect: bool) -> Web:
        side = self._augmentation.side(self._patch, self._random)
        index, row, column = self._near_a_defect(side) if near_a_defect and self._components else self._anywhere(side)
        cut = _cut(self._webs[index], row, column, side)
        return self._augmentation(cut, self._channels, self._patch, self._random)

    def _anywhere(self, side: int) -> tuple[int, int, int]:
        index = int(self._random.choice(len(self._webs), p=self._area))
        height, width = self._webs[index][1].shape
        row, column = (int(self._random.integers(max(size - side, 0) + 1)) for size in (height, width))
        return index, row, column

    def _near_a_defect(self, side: int) -> tuple[int, int, int]:
        components = self._components[self._random.integers(len(self._components))]
        index, pixels = components[self._random.integers(len(components))]
        height, width = self._webs[index][1].shape
        centre = divmod(int(self._random.choice(pixels)), width)
        offsets = self._random.integers(side // 8, side - side // 8, size=2)
        row, column = (
            int(np.clip(at - offset, 0, max(size - side, 0)))
            for at, offset, size in zip(centre, offsets, (height, width), strict=True)
        )
        return index, row, column


def mirror_signs(channels: Sequence[str], flipped: str) -> F32:
    """Signs (C,1,1) f32 of channels in a mirrored surface: -1 for `flipped`, the component along the mirrored axis."""
    return np.array([-1 if name == flipped else 1 for name in channels], dtype=np.float32)[:, None, None]


def _cut(web: Web, row: int, column: int, side: int) -> Web:
    """A square of a web, which is continued by its mirror image where it is too small."""
    here = (slice(row, row + side), slice(column, column + side))
    surface, truth = web[0][:, *here], web[1][here]
    below, right = (side - size for size in truth.shape)
    if not below and not right:
        return surface, truth
    continued = ((0, below), (0, right))
    return np.pad(surface, ((0, 0), *continued), mode="symmetric"), np.pad(truth, continued, mode="symmetric")


def _components(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Flat indices of the pixels of each 8-connected component of a mask (H,W)."""
    _, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    pixels = np.flatnonzero(mask)
    label = labels.ravel()[pixels]
    order = np.argsort(label, kind="stable")
    return np.split(pixels[order], np.flatnonzero(np.diff(label[order])) + 1)


def _check(surface: F32, truth: U8, channels: int, classes: int, patch: int) -> None:
    if surface.shape != (channels, *truth.shape):
        raise ConfigError(f"training web: surface {surface.shape} does not fit {channels} channels of {truth.shape}")
    if min(truth.shape) < patch:
        raise ConfigError(
            f"training web of {truth.shape} pixels is smaller than a patch of {patch}: render a larger one"
        )
    if truth.max() >= classes:
        raise ConfigError(f"training web holds class {truth.max()}, there are labels for {classes} only")
    if not np.isfinite(surface).all():
        raise ConfigError("training web: the surface holds values that are not numbers")
