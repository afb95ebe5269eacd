"""Windows along one axis, so that each pixel is decided once and by a network that saw all it looks at."""

from typing import NamedTuple


class Window(NamedTuple):
    """The network sees [start, stop) and decides [keep_start, keep_stop); all four lie on the grid."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


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
