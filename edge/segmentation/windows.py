"""Windows along one axis, so that each pixel is decided once and by a network that saw all it looks at."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CELL = 32
"""Side in pixels of the squares of web that are looked at or not."""


class Window(NamedTuple):
    """The network sees [start, stop) and decides [keep_start, keep_stop); all four lie on the grid."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def kept(self, length: int) -> tuple[slice, slice]:
        """What it decides of an axis of `length` pixels: where that lies on the axis, and where in the window."""
        stop = min(self.keep_stop, length)
        return slice(self.keep_start, stop), slice(self.keep_start - self.start, stop - self.start)


def padded_length(length: int, grid: int) -> int:
    """A length rounded up to the grid: what is added repeats the last row or column."""
    return -(-length // grid) * grid


def plan_axis(length: int, window: int, halo: int, grid: int) -> list[Window]:
    """Windows over an axis of `length` pixels, all `window` pixels long; together they keep each pixel once.

    `length`, `window` and `halo` are multiples of `grid`. At the two true ends of the axis there is no halo: the window
    starts and ends exactly there, and the network pads as it would for the whole axis. The last window is
    shifted back so that it is as long as the others. An axis no longer than `window` is one window.
    """
    if length % grid or window % grid or halo % grid:
        raise ValueError(f"length {length}, window {window} and halo {halo} must be multiples of {grid}")
    if length <= window:
        return [Window(0, length, 0, length)]
    if window <= 2 * halo:
        raise ValueError(f"a window of {window} keeps nothing beside two halos of {halo}")
    windows: list[Window] = []
    kept = 0
    while kept < length:
        start = min(max(kept - halo, 0), length - window)
        stop = start + window
        keep_stop = length if stop == length else stop - halo
        windows.append(Window(start, stop, kept, keep_stop))
        kept = keep_stop
    return windows


def cover_axis(
    cells: NDArray[np.bool_], keep: tuple[int, int], offset: int, length: int, window: int, halo: int, grid: int
) -> Iterator[Window]:
    """Windows over those pixels of [keep[0], keep[1]) that lie in marked cells, from the first on.

    As in `plan_axis`, but where nothing is marked there is none, and two may keep the same pixels. Cell k begins at
    pixel `offset + k CELL`.
    """
    at, end = keep
    for cell in np.flatnonzero(cells):
        at = max(at, offset + int(cell) * CELL)
        while at < min(offset + (int(cell) + 1) * CELL, end):
            one = _window_at(at, length, window, halo, grid)
            yield one
            at = one.keep_stop


def _window_at(pixel: int, length: int, window: int, halo: int, grid: int) -> Window:
    """A window whose first pixel to keep is this one, or which at the end of the axis begins earlier."""
    if length <= window:
        return Window(0, length, 0, length)
    start = min(max((pixel - halo) // grid * grid, 0), length - window)
    stop = start + window
    return Window(start, stop, 0 if start == 0 else start + halo, length if stop == length else stop - halo)
