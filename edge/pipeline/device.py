"""From strobes to class maps without leaving the GPU between: the device loop.

Strobes go up as they come, each once, into slots; a strip is solved by one kernel straight into the windows of the
network; a window that is complete is decided at once, and two bytes a pixel come back. Copies up, kernels and copies
back of neighbouring strips overlap: each strip has a stream of the few that go round, and events say what must come
before what. The windows are those of `edge.segmentation.stream.Segmenter`, row for row and column for column.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.assembly.row_map import RowMap
from edge.core.calibration import Calibration
from edge.core.errors import ModelError
from edge.core.gpu import Address, Driver, Event, Stream
from edge.core.types import U8, ClassMap, Pixels
from edge.pipeline.device_plan import sources_of
from edge.pipeline.device_tables import Resident
from edge.segmentation.device_backend import Engine
from edge.segmentation.model import ModelInfo
from edge.segmentation.stream import check_windows
from edge.segmentation.windows import Window, padded_length, plan_axis
from edge.surface.cuda import ARGUMENTS, CHANNELS, KERNELS, SOURCE, SOURCE_ROW, THREADS, WINDOW, grid

PASSAGES = 3
"""Strips under way at most, each in a stream of its own: one goes up, one is computed, one comes back."""
UPLOADS = 8
"""Strobes that wait in pinned memory for their copy at most."""


class Decided(NamedTuple):
    """A class map; `lost` (rows,) bool: rows that the GPU did not decide, `why` in words."""

    class_map: ClassMap
    lost: NDArray[np.bool_]
    why: str = ""


@dataclass(eq=False)
class _Passage:
    """What one strip needs on its way; used again when it is through."""

    stream: Stream
    solved: Event
    decided: Event
    done: Event
    plan: U8
    plan_there: Address
    seen: U8
    seen_there: Address
    answers: list[U8]
    answers_there: list[Address]
    rows: int = 0
    window: tuple[int, int] | None = None


class DeviceLine:
    """One roll on one GPU, from its first strobe to its last. Every method may raise GpuError: then all is lost that
    was not handed out, and only the driver's `close` is left.

    `dtype`: of the strobes. Class maps come `PASSAGES` strips late. All is allocated when it is made. Raises
    ConfigError for lights or windows that it has no kernel for, ModelError for an engine of smaller windows.
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
    ) -> None:
        check_windows(model, strip_rows, window_width)
        self._driver, self._engine, self._model, self._calibration = driver, engine, model, calibration
        self._strip_rows, self._halo = strip_rows, model.halo
        self._window_rows = strip_rows + 2 * model.halo
        self._width, self._padded = calibration.width, padded_length(calibration.width, model.grid)
        self._columns = plan_axis(self._padded, window_width, model.halo, model.grid)
        widest = max(column.stop - column.start for column in self._columns)
        if engine.rows < self._window_rows or engine.columns < widest:
            raise ModelError(
                f"the engine takes windows up to {engine.rows} x {engine.columns} px, this line has "
                f"{self._window_rows} x {widest}: run  foilsight engine build  with its configuration"
            )
        self._uploading = driver.stream()
        self._uploaded, self._idle = driver.event(), driver.event()
        self._resident = Resident(driver, self._uploading, calibration)
        self._kernel = driver.load(SOURCE.read_text(), KERNELS[np.dtype(dtype)])
        frame_bytes = calibration.height * calibration.width * np.dtype(dtype).itemsize
        self._staging = deque((driver.pinned(frame_bytes), driver.event()) for _ in range(UPLOADS))
        self._slots: dict[int, Address] = {}
        self._frame_bytes = frame_bytes
        open_windows = -(-self._window_rows // strip_rows) + 1
        # Windows in the making, and those that a strip under way may still be about: whose memory a new window takes
        # over has been handed out.
        self._ring = [self._new_window() for _ in range(open_windows + PASSAGES)]
        self._last_window = self._new_window()
        self._most_windows = open_windows * len(self._columns)
        self._passages = deque(self._new_passage() for _ in range(PASSAGES))
        self._begin()

    def _begin(self) -> None:
        self._under_way: deque[_Passage] = deque()
        self._origin: int | None = None
        self._filled = self._done = self._next = 0
        self._seen = np.empty(0, np.uint8)  # of the rows from _done on
        self._solved = self._decided = self._idle
        self._last_sources = np.zeros((self._calibration.lights, 1), SOURCE_ROW)
        self._last_table = np.full(1, -1, np.int32)

    def _new_window(self) -> list[Address]:
        """Memory for one window of rows: a buffer a column window."""
        pixels = [self._window_rows * (column.stop - column.start) for column in self._columns]
        return [self._driver.allocate(4 * len(self._model.channels) * each) for each in pixels]

    def _new_passage(self) -> _Passage:
        driver, rows = self._driver, self._strip_rows
        size = self._calibration.lights * rows * SOURCE_ROW.itemsize + 8 * rows + self._most_windows * WINDOW.itemsize
        pixels = [2 * self._window_rows * (column.stop - column.start) for column in self._columns]
        return _Passage(
            stream=driver.stream(),
            solved=driver.event(),
            decided=driver.event(),
            done=driver.event(),
            plan=driver.pinned(size),
            plan_there=driver.allocate(size),
            seen=driver.pinned(rows),
            seen_there=driver.allocate(rows),
            answers=[driver.pinned(each) for each in pixels],
            answers_there=[driver.allocate(each) for each in pixels],
        )

    def upload(self, slot: int, pixels: Pixels) -> None:
        """Put a strobe into a slot, over what was there; row maps name the slots."""
        driver = self._driver
        if slot not in self._slots:
            self._slots[slot] = driver.allocate(self._frame_bytes)
        memory, copied = self._staging[0]
        self._staging.rotate(-1)
        driver.synchronise(copied)
        memory[:] = pixels.reshape(-1).view(np.uint8)
        driver.wait(self._uploading, self._solved)  # the slot may still be read
        driver.upload(self._slots[slot], memory, self._uploading)
        driver.record(copied, self._uploading)
        driver.record(self._uploaded, self._uploading)

    def push(self, row_map: RowMap, shift: NDArray[np.float64] | None = None) -> list[Decided]:
        """Take the next rows of web, no more than a strip's; give what is decided by now.

        `shift` (n, rows): columns by which each row is moved to the right, None for none.
        """
        if self._origin is None:
            self._origin = row_map.first_row
        decided = self._make_room()
        shift = np.zeros(row_map.source_row.shape) if shift is None else shift
        slots = [*self._slots, -1]
        addresses = np.zeros(max(slots) + 2, np.uint64)
        addresses[slots[:-1]] = list(self._slots.values())
        centre = (self._calibration.height - 1) / 2
        sources = sources_of(addresses[row_map.slot], row_map.source_row, shift, centre)
        table_of_row = self._resident.tables_of(row_map.slot >= 0)
        self._last_sources, self._last_table = sources[:, -1:].copy(), table_of_row[-1:].copy()
        passage = self._lay(sources, table_of_row)
        start = self._next * self._strip_rows
        if self._filled >= start + self._window_rows:
            keep_start = start + self._halo if start else 0
            keep = (keep_start, start + self._strip_rows + self._halo)
            self._decide(passage, self._buffers(self._next), start, start + self._window_rows, keep)
            self._next += 1
        self._send(passage)
        return decided

    def finish(self) -> list[Decided]:
        """The roll has ended: give the rows still open. What is pushed next begins another roll."""
        decided = self._make_room()
        filled = self._filled
        decided_to = self._next * self._strip_rows + self._halo if self._next else 0
        if decided_to < filled:
            stop = padded_length(filled, self._model.grid)
            more = stop - filled
            passage = self._lay(np.repeat(self._last_sources, more, 1), np.repeat(self._last_table, more))
            passage.rows = 0  # nobody asks after rows that are not there
            start = max(stop - self._window_rows, 0)
            self._gather(passage.stream, start, stop)
            self._decide(passage, self._last_window, start, stop, (decided_to, filled))
            self._send(passage)
        while self._under_way:
            decided += self._collect()
        self._begin()
        return decided

    def _buffers(self, number: int) -> list[Address]:
        return self._ring[number % len(self._ring)]

    def _make_room(self) -> list[Decided]:
        return self._collect() if len(self._under_way) == PASSAGES else []

    def _send(self, passage: _Passage) -> None:
        self._driver.record(passage.done, passage.stream)
        self._under_way.append(passage)

    def _lay(self, sources: NDArray[np.void], table_of_row: NDArray[np.int32]) -> _Passage:
        """Solve the next rows into all windows that they belong to."""
        driver, passage, rows = self._driver, self._passages[0], len(table_of_row)
        self._passages.rotate(-1)
        passage.rows, passage.window = rows, None
        driver.wait(passage.stream, self._uploaded)
        driver.wait(passage.stream, self._solved)
        windows = self._windows(rows)
        arguments = np.zeros((), ARGUMENTS)
        at = 0
        for name, values in (("windows", windows), ("sources", sources), ("table_of_row", table_of_row)):
            data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            passage.plan[at : at + data.size] = data
            arguments[name] = passage.plan_there + at
            at += data.size
        self._resident.fill(arguments)
        arguments["seen"], arguments["rows"], arguments["window_count"] = passage.seen_there, rows, len(windows)
        arguments["padded_width"], arguments["channel_count"] = self._padded, len(self._model.channels)
        arguments["channels"][: len(self._model.channels)] = [CHANNELS.index(name) for name in self._model.channels]
        if rows:
            driver.upload(passage.plan_there, passage.plan[:at], passage.stream)
            driver.clear(passage.seen_there, rows, passage.stream)
            driver.launch(self._kernel, grid(rows, self._width), THREADS, arguments, passage.stream)
            driver.download(passage.seen[:rows], passage.seen_there, passage.stream)
        driver.record(passage.solved, passage.stream)
        self._solved = passage.solved
        self._filled += rows
        return passage

    def _windows(self, rows: int) -> NDArray[np.void]:
        """Where the next rows go."""
        first = max(0, (self._filled - self._window_rows) // self._strip_rows + 1)
        last = (self._filled + rows - 1) // self._strip_rows
        found = []
        for number in range(first, last + 1):
            shift = self._filled - number * self._strip_rows
            for column, buffer in zip(self._columns, self._buffers(number), strict=True):
                width = column.stop - column.start
                found.append((buffer, shift, self._window_rows, column.start, width))
        return np.array(found, WINDOW)

    def _gather(self, stream: Stream, start: int, stop: int) -> None:
        """The last window of the roll, which begins wherever it has to, out of those that hold its rows."""
        pieces = []
        row = start
        while row < stop:
            number = min(row // self._strip_rows, self._next)
            end = min(stop, (number + 1) * self._strip_rows if number < self._next else stop)
            pieces.append((number, row, end))
            row = end
        for at, column in enumerate(self._columns):
            line = 4 * (column.stop - column.start)
            for channel in range(len(self._model.channels)):
                for number, first, end in pieces:
                    source = self._buffers(number)[at]
                    source += line * (channel * self._window_rows + first - number * self._strip_rows)
                    to = self._last_window[at] + line * (channel * (stop - start) + first - start)
                    self._driver.copy(to, source, line * (end - first), stream)

    def _decide(self, passage: _Passage, buffers: list[Address], start: int, stop: int, keep: tuple[int, int]) -> None:
        """Run the network on rows [start, stop), behind its last run, and fetch what it says of the rows kept."""
        driver, stream = self._driver, passage.stream
        driver.wait(stream, self._decided)
        passage.window = keep
        for at, column in enumerate(self._columns):
            width = column.stop - column.start
            pixels, kept = (stop - start) * width, (keep[1] - keep[0]) * width
            there, skipped = passage.answers_there[at], (keep[0] - start) * width
            shape = (1, len(self._model.channels), stop - start, width)
            self._engine.enqueue(buffers[at], shape, there, there + pixels, stream)
            driver.download(passage.answers[at][:kept], there + skipped, stream)
            driver.download(passage.answers[at][kept : 2 * kept], there + pixels + skipped, stream)
        driver.record(passage.decided, stream)
        self._decided = passage.decided

    def _collect(self) -> list[Decided]:
        """Wait for the oldest strip under way, and give the window decided behind it, if there is one."""
        passage = self._under_way.popleft()
        self._driver.synchronise(passage.done)
        self._seen = np.concatenate([self._seen, passage.seen[: passage.rows]])
        if passage.window is None:
            return []
        first, stop = passage.window
        rows = stop - first
        class_map = ClassMap(
            np.empty((rows, self._width), np.uint8),
            np.empty((rows, self._width), np.uint8),
            (self._origin or 0) + first,
        )
        for column, answer in zip(self._columns, passage.answers, strict=True):
            _take(class_map, column, answer, self._width)
        unseen = self._seen[:rows] == 0
        class_map.class_index[unseen] = 0
        class_map.score[unseen] = 0
        self._seen = self._seen[rows:]
        return [Decided(class_map, np.zeros(rows, np.bool_))]


def _take(class_map: ClassMap, column: Window, answer: U8, width: int) -> None:
    """Take over what is kept of a column window: `answer` holds class and score of the rows of the class map."""
    rows, across = class_map.rows, column.stop - column.start
    kept = slice(column.keep_start, min(column.keep_stop, width))
    seen = slice(kept.start - column.start, kept.stop - column.start)
    class_index, score = answer[: 2 * rows * across].reshape(2, rows, across)
    class_map.class_index[:, kept] = class_index[:, seen]
    class_map.score[:, kept] = score[:, seen]
