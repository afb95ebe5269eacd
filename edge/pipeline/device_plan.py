"""A row map as the surface kernel reads it: for each light and row of web, which rows of which strobe, and how much."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.assembly.row_map import SNAP_PX, TAPS_ABOVE, TAPS_BELOW
from edge.surface.cuda import SOURCE_ROW

TAPS = TAPS_BELOW + 1 + TAPS_ABOVE


def sources_of(
    strobe: NDArray[np.uint64], source_row: NDArray[np.float64], shift: NDArray[np.float64], centre_row: float
) -> NDArray[np.void]:
    """(n, rows) of SOURCE_ROW. `strobe` (n, rows): address of the strobe, 0 for none; `source_row` (n, rows): image
    row, NaN where there is none; `shift` (n, rows): columns by which each row is moved to the right."""
    seen = strobe > 0
    row = np.where(seen, source_row, 0.0)
    sources = np.zeros(strobe.shape, SOURCE_ROW)
    sources["strobe"] = strobe
    sources["off_centre"] = row - centre_row
    sources["row"], sources["taps"], sources["weight"] = _taps(row, np.abs(row - np.rint(row)) <= SNAP_PX)
    left = -np.where(seen, shift, 0.0)
    sources["column"], sources["column_taps"], sources["column_weight"] = _taps(left, np.abs(left) <= SNAP_PX)
    return sources


def _taps(
    position: NDArray[np.float64], whole: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[Any]]:
    """The first tap, how many there are, and their weights (..., TAPS); where `whole`, that of the nearest place."""
    first = np.where(whole, np.rint(position), np.floor(position) - TAPS_BELOW)
    weights = np.zeros((*position.shape, TAPS))
    weights[whole, 0] = 1
    between = ~whole
    lobes = _windowed_sinc(position[between, None] - first[between, None] - np.arange(TAPS))
    weights[between] = lobes / lobes.sum(axis=-1, keepdims=True)
    return first.astype(np.int32), np.where(whole, 1, TAPS).astype(np.int32), weights.astype(np.float32)


def _windowed_sinc(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lanczos kernel of three lobes (Duchon 1979)."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
