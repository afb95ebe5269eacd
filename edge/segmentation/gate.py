"""The gate in front of the network: which cells of the web the network must look at.

Most web is good and shows it. A cell of 32 x 32 px is scored by its most conspicuous spot: over the means of 2 x 2 px,
the sum over the model's channels of the squared deviation from the cell's mean, relative to the web's own noise. Cells
beyond a threshold learnt for a stated recall are marked; the network looks at them and at the cells around them.

The noise of a channel is the median, over the cells of the last rows, of their mean squared deviation. It lies within
what was seen where the threshold was learnt: on rougher web the gate marks more, it does not grow blind.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edge.core.errors import ConfigError
from edge.core.types import F32
from edge.segmentation.model import GateInfo, ModelInfo
from edge.segmentation.windows import CELL

NEEDED_HALO = 2 * CELL
"""Rows beyond those decided that the marks around a cell may take."""
_MEMORY = 8
_SUMMED = np.float32(4)
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp", "reassoc"}}

Bools = NDArray[np.bool_]


class CellScores:
    """Scores cells row after row of cells. `bounds` (channels, 2): least and largest noise, root mean square, in the
    channels' units; `noise` (channels,): what it is now.

    Scores depend on nothing behind the row but one pixel, so they are the same however the web comes.
    """

    def __init__(self, bounds: F32, width: int) -> None:
        self._bounds = np.asarray(bounds, np.float32)
        cells = -(-width // CELL)
        self._squares = np.empty((_MEMORY, len(self._bounds), cells), np.float32)
        self._means = np.empty((len(self._bounds), cells), np.float32)
        self._scores = np.empty(cells, np.float32)
        self._expected = np.empty((len(self._bounds), width), np.float32)
        self._columns = np.empty((2, width), np.float32)
        self._measure, self._score = _compiled()
        self.begin()

    def begin(self) -> None:
        """Another roll: its noise is not known."""
        self._squares[:] = np.nan
        self._next = 0
        self.noise = self._bounds[:, 0].copy()

    def score(self, planes: F32, top: int, filled: int, is_whole: bool) -> F32:
        """Of the cells that begin in row `top` of `planes` (channels, h, at least the width) f32, filled to `filled`.

        `is_whole`: the web was inspected throughout, its noise may be learnt from. A cell with a value that is no
        number scores infinity. The answer is overwritten by the next.
        """
        squares = self._squares[self._next]
        last = min(top + CELL, filled - 1)
        self._measure(planes, top, last, self._means, squares, *self._columns)
        self._scores[:] = np.where(np.isfinite(squares).all(axis=0), 0, np.inf)
        if is_whole:
            self._next = (self._next + 1) % _MEMORY
            self._learn()
        else:
            squares[:] = np.nan
        self._score(planes, top, last, self._means, 1 / self.noise**2, self._scores, self._expected, *self._columns)
        return self._scores

    def _learn(self) -> None:
        for channel, (least, largest) in enumerate(self._bounds):
            known = self._squares[:, channel]
            known = known[np.isfinite(known)]
            if known.size:
                self.noise[channel] = min(max(float(np.median(known)) ** 0.5, least), largest)


class Gate:
    """Marks, for one roll after the other, the cells of the web that a `Segmenter` must show the network.

    `width` of the web in pixels; `rows` of it there are marks for, at most. Raises ConfigError where the model has no
    gate or looks less far around a pixel than the gate does.
    """

    def __init__(self, info: ModelInfo, width: int, rows: int) -> None:
        if info.gate is None:
            raise ConfigError(
                "segmentation.gate is true, but the model has learnt none: `foilsight gate` writes it into a model"
            )
        if info.halo < NEEDED_HALO:
            raise ConfigError(f"segmentation.gate needs a halo of {NEEDED_HALO}, the model's is {info.halo}")
        self._width = width
        self.use(info.gate)
        self._marks = np.zeros((-(-rows // CELL) + 3, -(-width // CELL)), np.bool_)
        self.begin()

    def use(self, learnt: GateInfo) -> None:
        """Mark by this from the next row of cells on: the noise of the web is learnt anew."""
        self._threshold = learnt.threshold
        self._cells = CellScores(np.array(learnt.noise, np.float32), self._width)

    def begin(self) -> None:
        """Another roll."""
        self._cells.begin()
        self._scored = 0

    def take(self, planes: F32, top: int, inspected: Bools, filled: int, *, is_end: bool) -> None:
        """Mark all rows of cells that are complete among the web rows [top, filled), which `planes` (channels, h, at
        least the width) and `inspected` (h,) begin with; at the roll's end also what is left."""
        while self._scored * CELL < filled - (0 if is_end else CELL):
            first = self._scored * CELL
            rows = min(CELL, filled - first)
            whole = bool(inspected[first - top : first - top + rows].all())
            scores = self._cells.score(planes, first - top, filled - top, whole)
            np.greater(scores, self._threshold, out=self._marks[self._scored % len(self._marks)])
            self._scored += 1

    def looked_at(self, first: int, stop: int) -> Bools:
        """Which cells of the rows of cells [first, stop) are marked or beside a marked one: (stop - first, cells)."""
        wide = np.zeros((stop - first, self._marks.shape[1]), np.bool_)
        for row in range(max(first - 1, 0), min(stop + 1, self._scored)):
            marks = self._marks[row % len(self._marks)]
            near = wide[max(row - 1 - first, 0) : max(row + 2 - first, 0)]
            near |= marks
            near[:, 1:] |= marks[:-1]
            near[:, :-1] |= marks[1:]
        return wide


@cache
def _compiled() -> tuple[Any, Any]:
    return njit(cache=True, **_OPTIONS)(_measure), njit(cache=True, **_OPTIONS)(_score)


def _measure(planes, top, last, means, squares, total, square):  # type: ignore[no-untyped-def]
    """Mean of each channel and cell, and mean squared deviation from it, of sums of 2 x 2 px on every other row."""
    boxes = total.size - 1
    for channel in range(planes.shape[0]):
        shift = _SUMMED * planes[channel, top, boxes]  # sums of small numbers lose little
        total[:] = 0
        square[:] = 0
        for row in range(top, last, 2):
            upper, lower = planes[channel, row], planes[channel, row + 1]
            for x in range(boxes):
                box = upper[x] + upper[x + 1] + lower[x] + lower[x + 1] - shift
                total[x] += box
                square[x] += box * box
        for cell in range(means.shape[1]):
            left, right = cell * CELL, min(cell * CELL + CELL, boxes)
            count = np.float32(max((last - top + 1) // 2 * (right - left), 1))
            mean, mean_square = total[left:right].sum() / count, square[left:right].sum() / count
            means[channel, cell] = mean + shift
            squares[channel, cell] = (mean_square - mean * mean) / _SUMMED**2


def _score(planes, top, last, means, weights, scores, expected, deviation, largest):  # type: ignore[no-untyped-def]
    """Raise each cell's score to the largest weighted sum over the channels of squared deviations from its mean."""
    channels, boxes = planes.shape[0], largest.size - 1
    for cell in range(scores.size):
        for channel in range(channels):
            expected[channel, cell * CELL : cell * CELL + CELL] = means[channel, cell]
    largest[:] = 0
    for row in range(top, last):
        deviation[:] = 0
        for channel in range(channels):
            upper, lower, mean = planes[channel, row], planes[channel, row + 1], expected[channel]
            weight = weights[channel] / _SUMMED**2
            for x in range(boxes):
                box = upper[x] + upper[x + 1] + lower[x] + lower[x + 1] - mean[x]
                deviation[x] += weight * box * box
        for x in range(boxes):
            largest[x] = max(largest[x], deviation[x])
    for cell in range(scores.size):
        scores[cell] = max(scores[cell], largest[cell * CELL : cell * CELL + CELL].max())
