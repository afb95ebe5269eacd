"""What stays on the GPU from the first strip to the last: the flat field and the matrices of all sets of lights."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.errors import ConfigError
from edge.core.gpu import Address, Driver, Stream
from edge.core.photometry import lights_solvable
from edge.surface.cuda import LIGHTS, Blocks, blocks_of_rows, lights_of_tables, tables
from edge.surface.matrices import Matrices, matrices_for
from edge.surface.tolerance import looked_at_columns


class Resident:
    """Raises ConfigError for more lights than the kernel solves from, CalibrationError where no light is solvable."""

    def __init__(self, driver: Driver, stream: Stream, calibration: Calibration) -> None:
        n, shape = calibration.lights, (calibration.lights, calibration.height, calibration.width)
        if n > LIGHTS:
            raise ConfigError(f"the GPU solves from 3 or 4 lights, not {n}: set segmentation.backend openvino")
        dark: NDArray[np.float32] = np.zeros(shape, np.float32)
        gain: NDArray[np.float32] = np.full(shape, 1 / calibration.white, np.float32)
        if calibration.flat is not None and calibration.dark is not None:
            dark, gain = calibration.dark, (1 / (calibration.flat - calibration.dark)).astype(np.float32)
        self._table_of_mask = np.full(1 << n, -1, np.int32)
        solvable: list[Matrices] = []
        for lights in [np.array(lights) for count in (4, 3) for lights in combinations(range(n), count)]:
            mask = int((1 << lights).sum())
            if lights_solvable(calibration.light_directions, np.array([mask], np.uint8)):
                self._table_of_mask[mask] = len(solvable)
                solvable.append(matrices_for(calibration, lights))
        self._is_four = np.array([len(each.lights) == LIGHTS for each in solvable])
        starts, run = looked_at_columns(calibration.width)
        self._runs, self.samples_per_block = (len(starts), run), 2 * len(starts) * run
        self._bits = 1 << np.arange(n)
        self._size = (calibration.height, calibration.width)
        self._driver, self._stream = driver, stream
        self._there = {
            "dark": self._put(dark),
            "gain": self._put(gain),
            "table": self._put(tables(solvable)),
            "lights": self._put(lights_of_tables(solvable)),
            "run_starts": self._put(starts.astype(np.int32)),
        }

    def tables_of(self, seen: NDArray[np.bool_]) -> NDArray[np.int32]:
        """(rows,) i32: which table solves each row, -1 for none. `seen` (n, rows): by the lights it was seen under."""
        found: NDArray[np.int32] = self._table_of_mask[self._bits @ seen]
        return found

    def blocks_of(self, table_of_row: NDArray[np.int32]) -> Blocks:
        """See `blocks_of_rows`."""
        return blocks_of_rows(table_of_row, self._is_four)

    def fill(self, arguments: NDArray[np.void]) -> None:
        """Tell the kernel where all of it lies."""
        for name, address in self._there.items():
            arguments[name] = address
        arguments["height"], arguments["width"] = self._size
        arguments["run_count"], arguments["run"] = self._runs

    def _put(self, values: NDArray[np.generic]) -> Address:
        source = np.ascontiguousarray(values)
        memory, there, done = (
            self._driver.pinned(source.nbytes),
            self._driver.allocate(source.nbytes),
            self._driver.event(),
        )
        memory[:] = source.reshape(-1).view(np.uint8)
        self._driver.upload(there, memory, self._stream)
        self._driver.record(done, self._stream)
        self._driver.synchronise(done)
        return there
