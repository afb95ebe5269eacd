"""Sets of training patches whose composition is chosen: the resampling of the thesis (Morgese 2024, section 3).

A patch holds a class where its centre lies in the class dilated by a square of the patch's size; centres keep half a
patch and a pixel from the edges; among all such centres the draw is uniform. A set is drawn afresh when it is used up.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.network.sampling import Web
from calibration.network.tables import text_table
from edge.core.errors import ConfigError
from edge.core.types import F32, U8

Positions = NDArray[np.int64]
"""(n, 3) of patches: web, first row, first column."""

SPREAD = 1.1
"""Largest over smallest count of pixels of a defect that `equal_pixels` aims at."""
POOL = 4
"""Patches looked at for each one that `equal_pixels` takes."""
LOOKED_AT = 512
"""Of which so many at a time."""
SWAPS, HALVINGS = 2, 8
"""Exchanges tried for each patch of a set until the pixels are equal, and how often fewer pixels are tried."""


@dataclass(frozen=True)
class Composition:
    """What a set of patches holds of each class: `holding` (classes,) patches and `pixels` (classes,)."""

    scheme: str
    patches: int
    holding: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @property
    def spread(self) -> float:
        """Pixels of the most frequent defect over those of the rarest."""
        return float(self.pixels[1:].max() / max(self.pixels[1:].min(), 1))

    def text(self, labels: Sequence[str]) -> str:
        """As a table, after Tables 3.3 to 3.5 of the thesis."""
        rows = [
            (label, int(holding), 100 * holding / self.patches, int(pixels), 100 * pixels / self.pixels.sum())
            for label, holding, pixels in zip(labels, self.holding, self.pixels, strict=True)
        ]
        table = text_table(("class", "patches", "%", "pixels", "%"), rows)
        return f"{self.scheme}: {self.patches} patches, defects' pixels within a factor of {self.spread:.2f}\n{table}"


class Centres:
    """Where patches may lie in webs of (surface (C,H,W), truth (H,W)), and what they hold there.

    Raises ConfigError for webs too small for a patch of `patch` pixels, and for a class that never occurs.
    """

    def __init__(self, webs: Sequence[Web], classes: int, patch: int) -> None:
        self.patch, self.classes = patch, classes
        self._margin = patch // 2 + 1
        self.truths = [truth for _, truth in webs]
        for truth in self.truths:
            if min(truth.shape) <= 2 * self._margin:
                raise ConfigError(f"web of {truth.shape} pixels: too small for patches of {patch} and a margin")
        square = np.ones((patch, patch), np.uint8)
        self._holds = [[self._inner(_dilated(truth == k, square)) for truth in self.truths] for k in range(classes)]
        for k in range(classes):
            if not any(here.any() for here in self._holds[k]):
                raise ConfigError(f"class {k} never occurs in the training webs where a patch could show it")

    def anywhere(self, count: int, random: np.random.Generator) -> Positions:
        """Patches drawn evenly over all webs."""
        return self._among([np.ones_like(here) for here in self._holds[0]], count, random)

    def holding(self, k: int, count: int, random: np.random.Generator) -> Positions:
        """Patches drawn evenly among those that hold class k."""
        return self._among(self._holds[k], count, random)

    def without(self, k: int, count: int, random: np.random.Generator) -> Positions:
        """Patches drawn evenly among those that do not hold class k; among all where every one does."""
        free = [~here for here in self._holds[k]]
        return self._among(free, count, random) if any(f.any() for f in free) else self.anywhere(count, random)

    def pixels(self, positions: Positions) -> NDArray[np.int64]:
        """Pixels (n, classes) of each class in patches."""
        counts = np.zeros((len(positions), self.classes), np.int64)
        for web in np.unique(positions[:, 0]):
            here = np.flatnonzero(positions[:, 0] == web)
            row, column = positions[here, 1], positions[here, 2]
            for k in range(self.classes):
                sums = cv2.integral((self.truths[web] == k).view(np.uint8), sdepth=cv2.CV_32S)
                below, right = row + self.patch, column + self.patch
                counts[here, k] = sums[below, right] - sums[row, right] - sums[below, column] + sums[row, column]
        return counts

    def _inner(self, plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return plane[self._margin : -self._margin, self._margin : -self._margin]

    def _among(self, allowed: list[NDArray[np.bool_]], count: int, random: np.random.Generator) -> Positions:
        sizes = np.array([np.count_nonzero(here) for here in allowed], dtype=np.float64)
        webs = random.choice(len(allowed), size=count, p=sizes / sizes.sum())
        positions = np.empty((count, 3), np.int64)
        positions[:, 0] = webs
        for web in np.unique(webs):
            here = webs == web
            flat = np.flatnonzero(allowed[web])[random.integers(int(sizes[web]), size=int(here.sum()))]
            row, column = np.divmod(flat, allowed[web].shape[1])
            first = self._margin - self.patch // 2
            positions[here, 1], positions[here, 2] = row + first, column + first
        return positions


def _dilated(mask: NDArray[np.bool_], square: U8) -> NDArray[np.bool_]:
    return cv2.dilate(mask.view(np.uint8), square, borderValue=0).view(np.bool_)


Scheme = Callable[[Centres, int, np.random.Generator], Positions]


def uniform(centres: Centres, count: int, random: np.random.Generator) -> Positions:
    """Patches as they come."""
    return centres.anywhere(count, random)


def equal_samples(centres: Centres, count: int, random: np.random.Generator) -> Positions:
    """As many patches drawn for each class as for every other, background included."""
    shares = np.diff(np.linspace(0, count, centres.classes + 1).astype(int))
    return np.concatenate([centres.holding(k, int(share), random) for k, share in enumerate(shares)])


def oversampled_rarest(centres: Centres, count: int, random: np.random.Generator) -> Positions:
    """Half of the patches hold the class of fewest pixels (the thesis's cavities), the others come as they are."""
    totals = sum(np.bincount(truth.ravel(), minlength=centres.classes) for truth in centres.truths)
    half = count // 2
    return np.concatenate(
        [centres.holding(int(np.argmin(totals)), half, random), centres.anywhere(count - half, random)]
    )


def class_in_half(centres: Centres, count: int, random: np.random.Generator) -> Positions:
    """Of two classes: half of the patches hold class 1, the others do not."""
    half = count // 2
    return np.concatenate([centres.holding(1, half, random), centres.without(1, count - half, random)])


def equal_pixels(centres: Centres, count: int, random: np.random.Generator) -> Positions:
    """Patches out of even draws for each defect so that all defects have as many pixels, within SPREAD.

    As many of each as patches drawn for the rarest show of it, and where that cannot be had of the others, half of
    that, and so on. Where the webs do not allow any, because every patch of a rare class is full of the frequent, as
    near as it gets: the composition says how near.
    """
    defects = range(1, centres.classes)
    pool = np.concatenate([centres.holding(k, POOL * count // len(defects) + 1, random) for k in defects])
    pixels = centres.pixels(pool)[:, 1:].astype(np.float64)
    wanted = float(pixels.mean(axis=0).min()) * len(defects)
    tries = []
    for _ in range(HALVINGS):
        taken = _take(pixels, wanted, count, random)
        totals = pixels[taken].sum(axis=0)
        tries.append((totals.max() / max(totals.min(), 1.0), taken))
        if tries[-1][0] <= SPREAD:
            break
        wanted /= 2
    return pool[min(tries, key=lambda each: each[0])[1]]


def _take(pixels: NDArray[np.float64], wanted: float, count: int, random: np.random.Generator) -> NDArray[np.intp]:
    """`count` patches that together show `wanted` pixels a patch of every class, one after another, then exchanged."""
    totals = np.zeros(pixels.shape[1])
    taken = np.empty(count, np.intp)
    for at in range(count * (1 + SWAPS)):
        if at >= count:
            if totals.max() <= SPREAD * totals.min():
                break
            totals -= pixels[taken[at % count]]
        tried = random.integers(len(pixels), size=LOOKED_AT)
        off = np.abs(totals + pixels[tried] - wanted * min(at + 1, count)).max(axis=1)
        taken[at % count] = tried[np.argmin(off)]
        totals += pixels[taken[at % count]]
    return taken


SCHEMES: dict[str, Scheme] = {
    "uniform": uniform,
    "equal_samples": equal_samples,
    "oversampled_rarest": oversampled_rarest,
    "equal_pixels": equal_pixels,
    "class_in_half": class_in_half,
}


class ResampledPatches:
    """Draws the patches of a scheme's sets in random order, a new set when one is used up; nothing is mirrored.

    `set_size` patches a set; `report` is told the composition of each. Raises ConfigError for webs that do not fit.
    """

    def __init__(
        self,
        webs: Sequence[Web],
        classes: int,
        patch: int,
        seed: int,
        scheme: str,
        set_size: int,
        report: Callable[[Composition], None] = lambda composition: None,
    ) -> None:
        self._webs, self._centres = webs, Centres(webs, classes, patch)
        self._scheme, self._set_size, self._report = scheme, set_size, report
        self._random = np.random.default_rng(seed)
        report(self._new_set())
        self.class_pixels = sum(
            (np.bincount(truth.ravel(), minlength=classes) for truth in self._centres.truths),
            start=np.zeros(classes, np.int64),
        )

    @property
    def state(self) -> str:
        """Where the drawing stands, for `restore`."""
        return json.dumps({"random": self._before_set, "used": self._used})

    def restore(self, state: str) -> None:
        """Go on as from `state`."""
        saved = json.loads(state)
        self._random.bit_generator.state = saved["random"]
        self._new_set()
        self._used = saved["used"]

    def draw(self, count: int) -> tuple[F32, NDArray[np.int64]]:
        """Patches (count,C,patch,patch) f32 and their truth (count,patch,patch) i64."""
        drawn: list[NDArray[np.int64]] = []
        while len(drawn) < count:
            if self._used >= len(self._set):
                self._report(self._new_set())
            drawn.append(self._set[self._used])
            self._used += 1
        size = self._centres.patch
        places = [(web, (slice(row, row + size), slice(column, column + size))) for web, row, column in drawn]
        return (
            np.stack([self._webs[web][0][:, *here] for web, here in places]),
            np.stack([self._webs[web][1][here] for web, here in places]).astype(np.int64),
        )

    def _new_set(self) -> Composition:
        self._before_set, self._used = self._random.bit_generator.state, 0
        positions = SCHEMES[self._scheme](self._centres, self._set_size, self._random)
        self._set = positions[self._random.permutation(len(positions))]
        pixels = self._centres.pixels(self._set)
        return Composition(self._scheme, len(self._set), (pixels > 0).sum(axis=0), pixels.sum(axis=0))
