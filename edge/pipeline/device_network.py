"""The network on windows that lie on the GPU: what it finds there, and whether that is anything."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.core.gpu import Address, Driver, Graph, Stream
from edge.core.types import U8, ClassMap
from edge.segmentation.device_backend import ANYTHING, ANYTHING_ARGUMENTS, Engine
from edge.segmentation.windows import Window

_BLOCKS, _THREADS = 256, 128
_FLAG_BYTES = 4


@dataclass(eq=False)
class Rows:
    """Rows of web as the network sees them: for each column window its surface (channels, rows, columns) f32, its
    answer, class and score u8, and whether that holds anything (u32). `graph`: the work of deciding them, once seen."""

    surfaces: list[Address]
    answers: list[Address]
    flags: Address
    graph: Graph | None = None


@dataclass(frozen=True)
class Asked:
    """Rows [start, stop) of web that were given to the network, and those of them that it decides."""

    rows: Rows
    start: int
    stop: int
    keep_start: int
    keep_stop: int


class DeviceNetwork:
    """An engine on windows of `window_rows` by the column windows `columns`; the last of a roll may be of fewer rows.

    What is put into a stream for a window is always the same but for the memory: where the engine allows it, that work
    is captured when such a window comes by for the second time and after that put there at once (`graphs`). A graph
    holds as long as all windows are of one shape: `begin` forgets them.
    """

    def __init__(
        self, driver: Driver, engine: Engine, channels: int, columns: Sequence[Window], window_rows: int, graphs: bool
    ) -> None:
        self._driver, self._engine, self._channels = driver, engine, channels
        self._widths = [column.stop - column.start for column in columns]
        self._columns, self._window_rows = columns, window_rows
        self._kernel = driver.load(ANYTHING.read_text(), "anything")
        self._graphs = graphs and engine.capturable
        self._all: list[Rows] = []
        self.begin()

    def begin(self) -> None:
        """Another roll."""
        self._is_warm = False
        for rows in self._all:
            rows.graph = None

    def new_rows(self) -> Rows:
        """Memory for so many rows as a window has."""
        pixels = [self._window_rows * width for width in self._widths]
        rows = Rows(
            surfaces=[self._driver.allocate(4 * self._channels * each) for each in pixels],
            answers=[self._driver.allocate(2 * each) for each in pixels],
            flags=self._driver.allocate(_FLAG_BYTES * len(pixels)),
        )
        self._all.append(rows)
        return rows

    def new_answers(self) -> list[U8]:
        """Pinned memory for what comes back of a window."""
        return [self._driver.pinned(2 * self._window_rows * width) for width in self._widths]

    def new_flags(self) -> U8:
        """Pinned memory for whether that is anything."""
        return self._driver.pinned(_FLAG_BYTES * len(self._widths))

    def decide(self, asked: Asked, flags: U8, stream: Stream) -> None:
        """Decide a window, and fetch whether there is anything in the rows it keeps."""
        driver, rows = self._driver, asked.rows
        if not self._is_usual(asked) or not self._is_warm:
            self._enqueue(asked, stream)
            self._is_warm = self._graphs and self._is_usual(asked)
        else:
            if rows.graph is None:
                driver.capture(stream)
                self._enqueue(asked, stream)
                rows.graph = driver.captured(stream)
            driver.replay(rows.graph, stream)
        driver.download(flags, rows.flags, stream)

    def fetch(self, asked: Asked, flags: U8, answers: list[U8], stream: Stream) -> bool:
        """Have what a decided window holds sent back, by columns; False where that is nothing anywhere."""
        found = flags.view(np.uint32) != 0
        for at in map(int, np.flatnonzero(found)):
            skipped, kept = self._kept(asked, at)
            pixels = (asked.stop - asked.start) * self._widths[at]
            there = asked.rows.answers[at] + skipped
            self._driver.download(answers[at][:kept], there, stream)
            self._driver.download(answers[at][kept : 2 * kept], there + pixels, stream)
        return bool(found.any())

    def take(self, class_map: ClassMap, flags: U8, answers: list[U8]) -> None:
        """Take over what has come back; a column window that holds nothing is background of score 0."""
        rows, width = class_map.class_index.shape
        for column, answer, found in zip(self._columns, answers, flags.view(np.uint32), strict=True):
            across = column.stop - column.start
            kept = slice(column.keep_start, min(column.keep_stop, width))
            seen = slice(kept.start - column.start, kept.stop - column.start)
            class_index, score = answer[: 2 * rows * across].reshape(2, rows, across)
            class_map.class_index[:, kept] = class_index[:, seen] if found else 0
            class_map.score[:, kept] = score[:, seen] if found else 0

    def _is_usual(self, asked: Asked) -> bool:
        """All but the first and the last of a roll: of one shape, and keeping the same of it."""
        halo = asked.keep_start - asked.start
        return halo > 0 and halo == asked.stop - asked.keep_stop and asked.stop - asked.start == self._window_rows

    def _kept(self, asked: Asked, column: int) -> tuple[int, int]:
        """How many pixels of a column window lie before those kept, and how many these are."""
        width = self._widths[column]
        return (asked.keep_start - asked.start) * width, (asked.keep_stop - asked.keep_start) * width

    def _enqueue(self, asked: Asked, stream: Stream) -> None:
        rows, height = asked.rows, asked.stop - asked.start
        self._driver.clear(rows.flags, _FLAG_BYTES * len(self._widths), stream)
        for at, width in enumerate(self._widths):
            answer, (skipped, kept) = rows.answers[at], self._kept(asked, at)
            shape = (1, self._channels, height, width)
            self._engine.enqueue(rows.surfaces[at], shape, answer, answer + height * width, stream)
            look = np.zeros((), ANYTHING_ARGUMENTS)
            look["classes"], look["flag"], look["count"] = answer + skipped, rows.flags + _FLAG_BYTES * at, kept
            self._driver.launch(self._kernel, (_BLOCKS, 1), _THREADS, look, stream)
