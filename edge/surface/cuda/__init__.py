"""Photometric stereo on a GPU: the kernel's source, and what it is given, in NumPy's words."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.core.gpu import Address, Driver, Stream
from edge.core.types import F32
from edge.surface.fallback import ATTACHED, FACING, MIN_SHARE, OPPOSITE
from edge.surface.matrices import MIN_ALBEDO, SHADOW, Matrices
from edge.surface.tolerance import EVERY, MIN_SPREAD, MIN_TOLERANCE, PER_MEDIAN, PER_QUARTILES, blocks_of

_SOURCE = Path(__file__).with_name("surface.cu")
_BITS = {np.dtype(np.uint8): "u8", np.dtype(np.uint16): "u16"}
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
BLOCK = np.dtype([("rows", np.int32, 2), ("table", np.int32)])
"""`Block` of surface.cu."""
USUAL_BYTES = 16
"""Of `Usual` of surface.cu."""
ARGUMENTS = np.dtype(
    [
        *(
            (name, _POINTER)
            for name in (
                *("dark", "gain", "table", "lights", "sources", "table_of_row", "block_of_row", "blocks"),
                *("run_starts", "samples", "usual", "windows", "seen", "valid"),
            )
        ),
        *((name, np.int32) for name in ("rows", "width", "padded_width", "height", "window_count")),
        *((name, np.int32) for name in ("block_count", "run_count", "run")),
    ],
    align=True,
)
"""`Arguments` of surface.cu."""


def source() -> str:
    """The kernels' CUDA C++, behind the constants that the processor's go by."""
    constants = {
        "ROWS": ROWS,
        "LIGHTS": LIGHTS,
        "LINES": LINES,
        "CHANNELS": len(CHANNELS),
        "EVERY": EVERY,
        "SHADOW": SHADOW,
        "MIN_ALBEDO": MIN_ALBEDO,
        "MIN_TOLERANCE": MIN_TOLERANCE,
        "MIN_SPREAD": MIN_SPREAD,
        "PER_MEDIAN": PER_MEDIAN,
        "PER_QUARTILES": PER_QUARTILES,
        "MIN_SHARE": MIN_SHARE,
        "FACING": FACING,
        "OPPOSITE": OPPOSITE,
        "ATTACHED": ATTACHED,
    }
    lines = [f"#define {name} {value}{'f' * isinstance(value, float)}\n" for name, value in constants.items()]
    return "".join(lines) + _SOURCE.read_text()


class Blocks(NamedTuple):
    """`blocks` (any,) of BLOCK; `of_row` (rows,) i32: which of them each row is of, -1 for none."""

    blocks: NDArray[np.void]
    of_row: NDArray[np.int32]


def blocks_of_rows(table_of_row: NDArray[np.int32], is_four: NDArray[np.bool_]) -> Blocks:
    """The blocks of a strip whose rows are solved by these tables, -1 for none; `is_four` (tables,): of four lights."""
    changes = np.flatnonzero(np.diff(table_of_row)) + 1
    of_row = np.full(len(table_of_row), -1, np.int32)
    found = [np.zeros(0, BLOCK)]
    count = 0
    for start, stop in pairwise([0, *changes.tolist(), len(table_of_row)]):
        table = table_of_row[start]
        if table < 0 or not is_four[table]:
            continue
        edges, rows = blocks_of(start, stop)
        made = np.zeros(len(rows), BLOCK)
        made["rows"], made["table"] = rows, table
        of_row[start:stop] = np.repeat(np.arange(count, count + len(made)), np.diff(edges))
        count += len(made)
        found.append(made)
    return Blocks(np.concatenate(found), of_row)


class SurfaceKernels:
    """The kernels for strobes of one type, loaded; what is usual is found first, a thread for each sample."""

    def __init__(self, driver: Driver, dtype: np.dtype[Any]) -> None:
        self._driver, text = driver, source()
        names = (f"sample_{_BITS[dtype]}", "quartiles", f"surface_{_BITS[dtype]}")
        self._sample, self._quartiles, self._surface = (driver.load(text, name) for name in names)

    def launch(self, arguments: NDArray[np.void], stream: Stream) -> None:
        """Solve a strip."""
        samples = 2 * int(arguments["block_count"] * arguments["run_count"] * arguments["run"])
        if samples:
            for kernel in (self._sample, self._quartiles):
                self._driver.launch(kernel, (-(-samples // THREADS), 1), THREADS, arguments, stream)
        grid = -(-int(arguments["width"]) // THREADS), -(-int(arguments["rows"]) // ROWS)
        self._driver.launch(self._surface, grid, THREADS, arguments, stream)


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
