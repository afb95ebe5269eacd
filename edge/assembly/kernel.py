"""The execution of registration: rows of frames, corrected by the flat field, moved into the planes of a strip."""

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from edge.assembly.row_map import SNAP_PX, TAPS_ABOVE, TAPS_BELOW
from edge.core.types import F32

_TAPS = TAPS_BELOW + 1 + TAPS_ABOVE


@njit(inline="always")
def windowed_sinc(x: float) -> Any:
    """Lanczos kernel of three lobes (Duchon 1979)."""
    if abs(x) < 1e-9:
        return 1.0
    if abs(x) >= 3.0:
        return 0.0
    return 3.0 * np.sin(np.pi * x) * np.sin(np.pi * x / 3.0) / (np.pi * x) ** 2


@njit(inline="always")
def _move(row: F32, shift: float) -> None:
    """Move a row by `shift` columns to the right."""
    width = row.size
    whole = int(np.floor(shift))
    left, right = max(0, whole) + _TAPS, max(0, -whole) + _TAPS
    padded = np.empty(left + width + right, np.float32)
    padded[:left], padded[left : left + width], padded[left + width :] = row[0], row, row[-1]
    weights = np.empty(_TAPS, np.float32)
    total = 0.0
    for tap in range(_TAPS):
        weights[tap] = windowed_sinc(1.0 - (shift - whole) + TAPS_BELOW - tap)
        total += weights[tap]
    weights /= np.float32(total)
    first = left - whole - 1 - TAPS_BELOW
    row[:] = 0
    for tap in range(_TAPS):
        source, weight = padded[first + tap : first + tap + width], weights[tap]
        for c in range(width):
            row[c] += weight * source[c]


@njit(parallel=True, nogil=True, cache=True, fastmath=True)
def lay_rows(
    planes: F32,
    pool: Any,
    slot: NDArray[np.int32],
    source_row: NDArray[np.float64],
    dark: F32,
    gain: F32,
    shift: NDArray[np.float64],
) -> None:
    """Fill `planes` (n, rows, w) f32 with (pixel - dark) * gain of the rows that the map names, 0 where it names none.

    `pool` (slots, h, w) u8 or u16; `slot`, `source_row` (n, rows); `dark`, `gain` (n, h, w), or (n, 1, 1) where all
    pixels of a light are alike; `shift` (n, rows): by how many columns each row is moved to the right. What the image
    does not show beyond its edges is taken to be as at the edge.
    """
    lights, rows, width = planes.shape
    uniform = dark.shape[1] == 1
    for index in prange(lights * rows):
        k, row = index // rows, index % rows
        out = planes[k, row]
        frame = slot[k, row]
        if frame < 0:
            out[:] = 0
            continue
        position = source_row[k, row]
        nearest = int(np.rint(position))
        weights = np.zeros(_TAPS, np.float32)
        if abs(position - nearest) <= SNAP_PX:
            first, taps = nearest, 1
            weights[0] = 1
        else:
            first, taps = int(np.floor(position)) - TAPS_BELOW, _TAPS
            total = 0.0
            for tap in range(_TAPS):
                weights[tap] = windowed_sinc(position - (first + tap))
                total += weights[tap]
            weights /= np.float32(total)
        for tap in range(taps):
            source = pool[frame, first + tap]
            if uniform:
                d, g = dark[k, 0, 0], gain[k, 0, 0] * weights[tap]
                for c in range(width):
                    value = (np.float32(source[c]) - d) * g
                    out[c] = value if tap == 0 else out[c] + value
            else:
                ds, gs, w = dark[k, first + tap], gain[k, first + tap], weights[tap]
                for c in range(width):
                    value = (np.float32(source[c]) - ds[c]) * (gs[c] * w)
                    out[c] = value if tap == 0 else out[c] + value
        if abs(shift[k, row]) > SNAP_PX:
            _move(out, shift[k, row])
