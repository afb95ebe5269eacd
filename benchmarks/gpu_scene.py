"""Random strobes, planned as an assembler would: each strip from four strobes of its own height."""

import numpy as np
from numpy.typing import NDArray

from edge.assembly.row_map import RowMap
from edge.core.calibration import Calibration
from edge.core.gpu import Driver, Stream
from edge.pipeline.device_plan import sources_of
from edge.pipeline.device_tables import Resident
from edge.segmentation.model import ModelFile
from edge.surface.cuda import ARGUMENTS, USUAL_BYTES, WINDOW, window


def flat_calibration(rows: int, width: int) -> Calibration:
    """Four lamps in a cross at 60 degrees from the normal, with a flat field."""
    azimuth = np.arange(4) * np.pi / 2
    slant = np.sin(np.pi / 3)
    directions = np.stack([slant * np.cos(azimuth), slant * np.sin(azimuth), np.full(4, np.cos(np.pi / 3))], axis=1)
    by_column = np.repeat(directions[:, :, None], width, axis=2)
    return Calibration(
        height=rows,
        width=width,
        light_directions=by_column,
        light_directions_per_row=np.zeros_like(by_column),
        dark=np.full((4, rows, width), 4, np.float32),
        flat=np.full((4, rows, width), 204, np.float32),
        white=255.0,
        pitch_mm=0.05,
        transport_sign=1,
        origin="benchmark",
    )


def strip_map(strip: int, rows: int) -> RowMap:
    """Strip number `strip` from slots 4 (strip % 4) to + 3, row by row."""
    slot = 4 * (strip % 4) + np.arange(4, dtype=np.int32)
    return RowMap(np.repeat(slot[:, None], rows, 1), np.tile(np.arange(rows, dtype=np.float64), (4, 1)), strip * rows)


def surface_arguments(driver: Driver, stream: Stream, model: ModelFile, rows: int, width: int) -> NDArray[np.void]:
    """What the surface kernel is given for one strip that fills one window."""
    resident = Resident(driver, stream, flat_calibration(rows, width))
    strobes = driver.allocate(4 * rows * width)
    driver.clear(strobes, 4 * rows * width, stream)
    addresses = np.repeat(strobes + rows * width * np.arange(4, dtype=np.uint64)[:, None], rows, 1)
    still = np.zeros((4, rows))
    sources = sources_of(addresses, strip_map(0, rows).source_row, still, (rows - 1) / 2)
    channels = model.info.channels
    windows = np.array([window(driver.allocate(4 * len(channels) * rows * width), channels, rows, width)], WINDOW)
    arguments = np.zeros((), ARGUMENTS)
    table_of_row = np.zeros(rows, np.int32)
    blocks, block_of_row = resident.blocks_of(table_of_row)
    for name, values in (
        ("sources", sources),
        ("windows", windows),
        ("table_of_row", table_of_row),
        ("block_of_row", block_of_row),
        ("blocks", blocks),
    ):
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        memory, done = driver.pinned(data.size), driver.event()
        memory[:] = data
        arguments[name] = driver.allocate(data.size)
        driver.upload(int(arguments[name]), memory, stream)
        driver.record(done, stream)
        driver.synchronise(done)
    resident.fill(arguments)
    arguments["seen"], arguments["rows"], arguments["padded_width"] = driver.allocate(rows), rows, width
    arguments["window_count"], arguments["block_count"] = 1, len(blocks)
    arguments["usual"] = driver.allocate(USUAL_BYTES * len(blocks))
    arguments["samples"] = driver.allocate(8 * resident.samples_per_block * len(blocks))
    return arguments
