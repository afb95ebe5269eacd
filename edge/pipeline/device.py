"""From strobes to class maps without leaving the GPU between: the device loop.

Strobes go up as they come, each once, into slots; a strip is solved by one kernel straight into the windows of the
network; a window that is complete is decided at once, and two bytes a pixel come back where it holds anything. Copies
up, kernels and copies back of neighbouring strips overlap: each strip has a stream of the few that go round, and events
say what must come before what. The windows are those of `edge.segmentation.stream.Segmenter`, row for row and column
for column.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.assembly.row_map import RowMap
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError, ModelError
from edge.core.gpu import Address, Driver
from edge.core.types import ClassMap, Pixels, Surface
from edge.pipeline.device_memory import UnderWay, under_way_on
from edge.pipeline.device_network import Asked, DeviceNetwork
from edge.pipeline.device_plan import sources_of
from edge.pipeline.device_tables import Resident
from edge.pipeline.device_windows import DeviceWindows
from edge.pipeline.passage import Decided, Memory
from edge.segmentation.device_backend import Engine
from edge.segmentation.model import ModelInfo
from edge.segmentation.stream import check_windows
from edge.segmentation.windows import padded_length, plan_axis
from edge.surface.cuda import ARGUMENTS, WINDOW, SurfaceKernels

PASSAGES = 3
"""Strips under way at most, each in a stream of its own: one goes up, one is computed, one comes back."""
UPLOADS = 8
"""Strobes that wait in pinned memory for their copy at most."""


class Done(NamedTuple):
    """A strip that is through: its surface, None where it was not asked for, and what was decided behind it."""

    surface: Surface | None
    decided: Sequence[Decided]


class DeviceLine:
    """One roll on one GPU, from its first strobe to its last. Every method may raise GpuError: then all is lost that
    was not handed out, and only the driver's `close` is left.

    `dtype`: of the strobes; `whole`: all of the surface is sent back, not only the residual of some rows; `graphs`: see
    `DeviceNetwork`. Strips are through `PASSAGES` strips later at the latest. Each may bring memory of its own for what
    it becomes. Slots are allocated as they are first used, all else when it is made. Raises ConfigError for lights or
    windows that it has no kernel for, ModelError for an engine of smaller windows.
    """

    def __init__(
        self,
        driver: Driver,
        engine: Engine,
        calibration: Calibration,
        model: ModelInfo,
        strip_rows: int,
        window_width: int,
        dtype: type[np.generic],
        whole: bool = False,
        graphs: bool = True,
    ) -> None:
        check_windows(model, strip_rows, window_width)
        self._driver, self._model, self._calibration = driver, model, calibration
        self._strip_rows, self._halo = strip_rows, model.halo
        self._window_rows = strip_rows + 2 * model.halo
        self._width, self._padded = calibration.width, padded_length(calibration.width, model.grid)
        self._columns = plan_axis(self._padded, window_width, model.halo, model.grid)
        widest = self._columns[0].stop
        if engine.rows < self._window_rows or engine.columns < widest:
            raise ModelError(
                f"the engine takes windows up to {engine.rows} x {engine.columns} px, this line has "
                f"{self._window_rows} x {widest}: run  foilsight engine build  with its configuration"
            )
        self._uploading = driver.stream()
        self._uploaded, self._idle = driver.event(), driver.event()
        self._resident = Resident(driver, self._uploading, calibration)
        self._dtype = np.dtype(dtype)
        self._kernels = SurfaceKernels(driver, self._dtype)
        frame_bytes = calibration.height * calibration.width * self._dtype.itemsize
        self._staging = deque((driver.pinned(frame_bytes), driver.event()) for _ in range(UPLOADS))
        self._slots: dict[int, Address] = {}
        self._frame_bytes = frame_bytes
        self._network = DeviceNetwork(driver, engine, len(model.channels), self._columns, self._window_rows, graphs)
        # A strip under way may still be about a window that is complete.
        self._windows = DeviceWindows(
            driver, self._network, model.channels, self._columns, strip_rows, self._window_rows, kept=PASSAGES
        )
        self._passages = deque(
            under_way_on(
                driver,
                calibration.lights,
                strip_rows,
                self._width,
                self._windows.most_at_once,
                self._network,
                self._resident.samples_per_block,
                whole,
            )
            for _ in range(PASSAGES)
        )
        self._begin()

    def _begin(self) -> None:
        self._under_way: deque[UnderWay] = deque()
        self._origin: int | None = None
        self._filled = self._next = 0
        self._seen = np.empty(0, np.uint8)  # of the rows not handed out
        self._solved = self._decided = self._idle
        self._network.begin()

    def upload(self, slot: int, pixels: Pixels) -> None:
        """Put a strobe into a slot, over what was there; row maps name the slots.

        Raises CalibrationError for one of more bits than the line was made for.
        """
        driver = self._driver
        if not np.can_cast(pixels.dtype, self._dtype):
            raise CalibrationError(
                f"frames are of {pixels.dtype}, this line is of {self._dtype}: use the calibration of this camera"
            )
        if slot not in self._slots:
            self._slots[slot] = driver.allocate(self._frame_bytes)
        memory, copied = self._staging[0]
        self._staging.rotate(-1)
        driver.synchronise(copied)
        memory.view(self._dtype)[:] = pixels.reshape(-1)
        driver.wait(self._uploading, self._solved)  # the slot may still be read
        driver.upload(self._slots[slot], memory, self._uploading)
        driver.record(copied, self._uploading)
        driver.record(self._uploaded, self._uploading)

    def push(
        self, row_map: RowMap, shift: NDArray[np.float64] | None = None, memory: Memory | None = None
    ) -> list[Done]:
        """Take the next rows of web, no more than a strip's; give the strips that had to be through for that.

        `shift` (n, rows): columns by which each row is moved to the right, None for none.
        """
        if self._origin is None:
            self._origin = row_map.first_row
        done = [self._collect()] if len(self._under_way) == PASSAGES else []
        under_way = self._lay(row_map, np.zeros(row_map.source_row.shape) if shift is None else shift)
        under_way.memory = memory
        start = self._next * self._strip_rows
        if self._filled >= start + self._window_rows:
            keep_start = start + self._halo if start else 0
            keep = (keep_start, start + self._strip_rows + self._halo)
            self._decide(under_way, Asked(self._windows.rows(self._next), start, start + self._window_rows, *keep))
            self._next += 1
        self._send(under_way)
        return done

    def poll(self) -> list[Done]:
        """The strips that are through by now. Never waits for the GPU's work."""
        done = []
        while self._under_way and self._driver.has_come(self._under_way[0].done):
            done.append(self._collect())
        return done

    def finish(self, memory: Memory | None = None) -> list[Done]:
        """The roll has ended: give the strips still under way and, as one more without rows, what is decided behind the
        last of them. What is pushed next begins another roll."""
        done = [self._collect()] if len(self._under_way) == PASSAGES else []
        filled = self._filled
        decided_to = self._next * self._strip_rows + self._halo if self._next else 0
        last = self._idle_passage()
        last.memory = memory
        if decided_to < filled:
            stop = padded_length(filled, self._model.grid)
            start = max(stop - self._window_rows, 0)
            self._windows.gather(last.stream, start, filled, stop, self._next)
            self._decide(last, Asked(self._windows.last, start, stop, decided_to, filled))
        self._send(last)
        while self._under_way:
            done.append(self._collect())
        self._begin()
        return done

    def _send(self, under_way: UnderWay) -> None:
        self._driver.record(under_way.done, under_way.stream)
        self._under_way.append(under_way)

    def _idle_passage(self) -> UnderWay:
        """Behind all that was solved before."""
        under_way = self._passages[0]
        self._passages.rotate(-1)
        under_way.rows, under_way.asked, under_way.memory = 0, None, None
        self._driver.wait(under_way.stream, self._solved)
        return under_way

    def _lay(self, row_map: RowMap, shift: NDArray[np.float64]) -> UnderWay:
        """Solve the next rows into all windows that they belong to."""
        driver, under_way, rows = self._driver, self._idle_passage(), row_map.slot.shape[1]
        under_way.rows, under_way.first_row = rows, row_map.first_row
        stream = under_way.stream
        driver.wait(stream, self._uploaded)
        arguments = self._planned(under_way, row_map, shift)
        driver.clear(under_way.seen_there, rows, stream)
        self._kernels.launch(arguments, stream)
        driver.download(under_way.seen[:rows], under_way.seen_there, stream)
        under_way.surface.download(driver, rows, stream)
        driver.record(under_way.solved, stream)
        self._solved = under_way.solved
        self._filled += rows
        return under_way

    def _planned(self, under_way: UnderWay, row_map: RowMap, shift: NDArray[np.float64]) -> NDArray[np.void]:
        """What the kernel is given; what it points to goes up."""
        rows, centre = under_way.rows, (self._calibration.height - 1) / 2
        slots = [*self._slots, -1]
        addresses = np.zeros(max(slots) + 2, np.uint64)
        addresses[slots[:-1]] = list(self._slots.values())
        windows = np.array([*self._windows.takers(self._filled, rows), under_way.surface.window(rows)], WINDOW)
        table_of_row = self._resident.tables_of(row_map.slot >= 0)
        blocks, block_of_row = self._resident.blocks_of(table_of_row)
        arguments = np.zeros((), ARGUMENTS)
        at = 0
        for name, values in (
            ("windows", windows),
            ("sources", sources_of(addresses[row_map.slot], row_map.source_row, shift, centre)),
            ("table_of_row", table_of_row),
            ("block_of_row", block_of_row),
            ("blocks", blocks),
        ):
            data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            under_way.plan[at : at + data.size] = data
            arguments[name] = under_way.plan_there + at
            at += data.size
        self._driver.upload(under_way.plan_there, under_way.plan[:at], under_way.stream)
        self._resident.fill(arguments)
        arguments["seen"], arguments["valid"] = under_way.seen_there, under_way.surface.valid_there
        arguments["usual"], arguments["samples"] = under_way.usual_there, under_way.samples_there
        arguments["rows"], arguments["window_count"], arguments["block_count"] = rows, len(windows), len(blocks)
        arguments["padded_width"] = self._padded
        return arguments

    def _decide(self, under_way: UnderWay, asked: Asked) -> None:
        """Run the network behind its last run."""
        self._driver.wait(under_way.stream, self._decided)
        under_way.asked = asked
        self._network.decide(asked, under_way.flags, under_way.stream)
        self._driver.record(under_way.decided, under_way.stream)
        self._decided = under_way.decided

    def _collect(self) -> Done:
        """Wait for the oldest strip under way; give it, and the window decided behind it, if there is one."""
        oldest = self._under_way.popleft()
        self._driver.synchronise(oldest.done)
        rows, memory, surface = oldest.rows, oldest.memory, None
        self._seen = np.concatenate([self._seen, oldest.seen[:rows]])
        if rows and memory is not None:
            surface = oldest.surface.take(memory.surface, rows, oldest.first_row)
        if oldest.asked is None:
            return Done(surface, [])
        if self._network.fetch(oldest.asked, oldest.flags, oldest.answers, oldest.stream):
            self._driver.record(oldest.done, oldest.stream)
            self._driver.synchronise(oldest.done)
        class_map = self._empty_map(memory, oldest.asked)
        self._network.take(class_map, oldest.flags, oldest.answers)
        unseen = self._seen[: class_map.rows] == 0
        class_map.class_index[unseen] = 0
        class_map.score[unseen] = 0
        self._seen = self._seen[class_map.rows :]
        return Done(surface, [Decided(class_map)])

    def _empty_map(self, memory: Memory | None, asked: Asked) -> ClassMap:
        rows, first_row = asked.keep_stop - asked.keep_start, (self._origin or 0) + asked.keep_start
        if memory is None:
            planes = np.empty((2, rows, self._width), np.uint8)
            return ClassMap(planes[0], planes[1], first_row)
        return ClassMap(memory.class_map.class_index[:rows], memory.class_map.score[:rows], first_row)
