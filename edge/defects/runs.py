"""Runs: the horizontal stretches of one class that a class map is made of, and which of them touch.

Labelling runs instead of pixels costs one vectorised pass over a clean map; only rows that hold a defect are looked at
pixel by pixel. All classes are labelled in the same pass.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edge.core.types import U8
from edge.defects.outline import Points, smallest_rectangle

I64 = NDArray[np.int64]


class Runs(NamedTuple):
    """Stretches of one class, ordered by row, then column; every field (n,) i64.

    `row`; columns `start` to `stop` (half-open); `class_index`; `score_sum` and `score_max` of their pixels, 0..255.
    """

    row: I64
    start: I64
    stop: I64
    class_index: I64
    score_sum: I64
    score_max: I64

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Runs":
        """The chosen runs."""
        return Runs(*(field[which] for field in self))


class Components(NamedTuple):
    """Sums over the runs of each component, every field (k,) i64.

    `sum_x`, `sum_y` over pixel columns and rows; the box columns `left` to `right` and rows `top` to `bottom` is
    half-open; `area` is 0 for a component that has no new run.
    """

    class_index: I64
    area: I64
    sum_x: I64
    sum_y: I64
    score_sum: I64
    score_max: I64
    left: I64
    top: I64
    right: I64
    bottom: I64


def no_runs() -> Runs:
    """An empty set of runs."""
    return Runs(*np.zeros((6, 0), np.int64))


def compile_kernels() -> None:
    """Compiles what would otherwise be compiled while the first strip waits."""
    pixel = np.ones((1, 1), np.uint8)
    runs = find_runs(pixel, pixel)
    connect(runs._replace(row=runs.row - 1), np.zeros(1, np.int64), runs)
    paint(runs, 0, 0, 1, 1)
    smallest_rectangle(np.zeros((1, 2), np.int32))


def find_runs(class_index: U8, score: U8) -> Runs:
    """The runs of all classes but 0 in a map (rows, width) u8 with its scores; rows count from the map's first."""
    counts = _count_runs(class_index)
    runs = Runs(*np.empty((6, int(counts.sum())), np.int64))
    _fill_runs(class_index, score, counts, *runs)
    return runs


def connect(seam: Runs, seam_owner: I64, new: Runs) -> tuple[I64, Components]:
    """Joins runs of one class that touch, corners included (8-connected), into components.

    `seam`: the runs of the row before `new`, with row -1; those with one `seam_owner` (n,) belong together already.
    Returns the component of every run, the seam's first, numbered by first run, and the sums over the new runs.
    """
    runs = Runs(*(np.concatenate(pair) for pair in zip(seam, new, strict=True)))
    if len(seam_owner):
        _, first_of_owner, owner = np.unique(seam_owner, return_index=True, return_inverse=True)
        parent = np.concatenate((first_of_owner[owner], np.arange(len(seam_owner), len(runs.row))))
    else:
        parent = np.arange(len(runs.row))
    count = _label(runs.row, runs.start, runs.stop, runs.class_index, parent)
    table = np.zeros((10, count), np.int64)
    _sum(parent, *runs, table)
    return parent, Components(*table)


def paint(runs: Runs, left: int, top: int, width: int, height: int) -> U8:
    """The runs as a mask (height, width) u8 of 0 and 1, whose corner is (`left`, `top`)."""
    mask = np.zeros((height, width), np.uint8)
    _paint(runs.row - top, runs.start - left, runs.stop - left, mask)
    return mask


def end_points(runs: Runs, top: int) -> Points:
    """The first and the last pixel of each run, (2 n, 2) i32 columns and rows, rows from `top`."""
    points = np.empty((2, len(runs.row), 2), np.int32)
    points[0, :, 0] = runs.start
    points[1, :, 0] = runs.stop - 1
    points[:, :, 1] = runs.row - top
    return points.reshape(-1, 2)


@njit(nogil=True, cache=True)
def _count_runs(class_index: U8) -> I64:
    rows, width = class_index.shape
    counts = np.zeros(rows, np.int64)
    for r in range(rows):
        line = class_index[r]
        n = np.uint32(line[0] != 0)
        for c in range(1, width):
            n += np.uint32((line[c] != 0) & (line[c] != line[c - 1]))
        counts[r] = n
    return counts


@njit(nogil=True, cache=True)
def _fill_runs(
    class_index: U8,
    score: U8,
    counts: I64,
    row: I64,
    start: I64,
    stop: I64,
    kind: I64,
    score_sum: I64,
    score_max: I64,
) -> None:
    i = -1
    for r in range(class_index.shape[0]):
        if counts[r] == 0:
            continue
        last = 0
        for c in range(class_index.shape[1]):
            k = class_index[r, c]
            if k == 0:
                last = 0
                continue
            s = np.int64(score[r, c])
            if k != last:
                i += 1
                last = k
                row[i], start[i], kind[i] = r, c, k
                score_sum[i], score_max[i] = 0, 0
            stop[i] = c + 1
            score_sum[i] += s
            score_max[i] = max(score_max[i], s)


@njit(nogil=True, cache=True)
def _root(parent: I64, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(nogil=True, cache=True)
def _label(row: I64, start: I64, stop: I64, kind: I64, parent: I64) -> int:
    """Turns `parent` into component numbers; returns how many there are. The smaller index is always the root."""
    above = 0
    for i in range(len(row)):
        while row[above] < row[i] - 1 or (row[above] == row[i] - 1 and stop[above] < start[i]):
            above += 1
        j = above
        while row[j] == row[i] - 1 and start[j] <= stop[i]:
            if kind[j] == kind[i]:
                a, b = _root(parent, i), _root(parent, j)
                parent[max(a, b)] = min(a, b)
            j += 1
    count = 0
    for i in range(len(row)):
        if parent[i] == i:
            parent[i] = count
            count += 1
        else:
            parent[i] = parent[parent[i]]
    return count


@njit(nogil=True, cache=True)
def _sum(
    component: I64,
    row: I64,
    start: I64,
    stop: I64,
    kind: I64,
    score_sum: I64,
    score_max: I64,
    table: I64,
) -> None:
    for i in range(len(row)):
        k = component[i]
        table[0, k] = kind[i]
        if row[i] < 0:
            continue
        n = stop[i] - start[i]
        if table[1, k] == 0:
            table[6, k] = start[i]
            table[7, k] = row[i]
        table[1, k] += n
        table[2, k] += n * (start[i] + stop[i] - 1) // 2
        table[3, k] += n * row[i]
        table[4, k] += score_sum[i]
        table[5, k] = max(table[5, k], score_max[i])
        table[6, k] = min(table[6, k], start[i])
        table[8, k] = max(table[8, k], stop[i])
        table[9, k] = row[i] + 1


@njit(nogil=True, cache=True)
def _paint(row: I64, start: I64, stop: I64, mask: U8) -> None:
    for i in range(len(row)):
        mask[row[i], start[i] : stop[i]] = 1
