"""Photometric stereo on a GPU: the kernel's source, and what it is given, in NumPy's words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.core.gpu import Address
from edge.core.types import F32
from edge.surface.matrices import Matrices

SOURCE = Path(__file__).with_name("surface.cu")
KERNELS = {np.dtype(np.uint8): "surface_u8", np.dtype(np.uint16): "surface_u16"}
"""By the type of the strobes."""
LIGHTS, TAPS, LINES = 4, 6, 36
ROWS, THREADS = 4, 128
"""A thread takes so many rows, a block so many columns."""
CHANNELS = ("normal_x", "normal_y", "normal_z", "albedo", "residual", "checksum")
"""As `Window.channels` counts them: `checksum` is the residual too, but no number where there is none."""

_POINTER = np.uint64
SOURCE_ROW = np.dtype(
    [
        ("strobe", _POINTER),
        *((name, np.int32) for name in ("row", "taps", "column", "column_taps")),
        ("off_centre", np.float32),
        ("weight", np.float32, TAPS),
        ("column_weight", np.float32, TAPS),
    ],
    align=True,
)
"""`Source` of surface.cu."""
WINDOW = np.dtype(
    [
        ("planes", _POINTER),
        *((name, np.int32) for name in ("row_shift", "row_step", "rows", "first_column", "columns", "channel_count")),
        ("channels", np.int32, len(CHANNELS)),
    ],
    align=True,
)
"""`Window` of surface.cu."""
ARGUMENTS = np.dtype(
    [
        *(
            (name, _POINTER)
            for name in (
                *("dark", "gain", "table", "lights", "sources"),
                *("table_of_row", "tolerance", "windows", "seen", "valid"),
            )
        ),
        *((name, np.int32) for name in ("rows", "width", "padded_width", "height", "window_count")),
    ],
    align=True,
)
"""`Arguments` of surface.cu."""


def grid(rows: int, width: int) -> tuple[int, int]:
    """Blocks of THREADS threads for a strip."""
    return -(-width // THREADS), -(-rows // ROWS)


def window(
    planes: Address,
    channels: Sequence[str],
    rows: int,
    columns: int,
    first_column: int = 0,
    row_shift: int = 0,
    row_step: int = 1,
) -> NDArray[np.void]:
    """A WINDOW: device memory (channels, rows, columns) f32 and what of a strip goes there."""
    made = np.zeros((), WINDOW)
    made["channels"][: len(channels)] = [CHANNELS.index(name) for name in channels]
    for name, value in (
        ("planes", planes),
        ("row_shift", row_shift),
        ("row_step", row_step),
        ("rows", rows),
        ("first_column", first_column),
        ("columns", columns),
        ("channel_count", len(channels)),
    ):
        made[name] = value
    return made


def tables(matrices: Sequence[Matrices]) -> F32:
    """(tables, LINES, w): the matrices of three or four lights as the kernel reads them.

    Three lights become four: the first comes twice, the second time with no weight and a checksum that is no number.
    """
    return np.stack([_lines(each) for each in matrices]).astype(np.float32)


def lights_of_tables(matrices: Sequence[Matrices]) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """(tables, LIGHTS) i32: which light stands at which place of a table."""
    lights = np.zeros((len(matrices), LIGHTS), np.int32)
    for row, each in zip(lights, matrices, strict=True):
        row[:] = each.lights[0]
        row[: len(each.lights)] = each.lights
    return lights


def _lines(m: Matrices) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    count, _, width = m.g.shape
    lines = np.zeros((LINES, width))
    row_term, inverse, checksum, saturation = np.split(lines, [16, 28, 32])
    row_term.reshape(LIGHTS, LIGHTS, width)[:count, :count] = np.einsum("kiw,ijw->kjw", m.g_per_row, m.inverse)
    inverse.reshape(3, LIGHTS, width)[:, :count] = m.inverse
    checksum[:] = m.checksum if count == LIGHTS else np.nan
    saturation[:] = np.inf
    saturation[:count] = m.saturation
    return lines
