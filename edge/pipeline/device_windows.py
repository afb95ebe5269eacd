"""The windows in the making on the GPU: where the rows of a strip go, and the last window of a roll."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.core.gpu import Driver, Stream
from edge.pipeline.device_network import DeviceNetwork, Rows
from edge.segmentation.windows import Window
from edge.surface.cuda import window


class DeviceWindows:
    """Window number k begins with row k `strip_rows` of the roll and has `window_rows`; its memory goes round.

    `kept`: how many strips later a window that is complete may still be asked for.
    """

    def __init__(
        self,
        driver: Driver,
        network: DeviceNetwork,
        channels: Sequence[str],
        columns: Sequence[Window],
        strip_rows: int,
        window_rows: int,
        kept: int,
    ) -> None:
        self._driver, self._channels, self._columns = driver, channels, columns
        self._strip_rows, self._window_rows = strip_rows, window_rows
        unfinished = -(-window_rows // strip_rows) + 1
        self.most_at_once = unfinished * len(columns)
        self._ring = [network.new_rows() for _ in range(unfinished + kept)]
        self.last = network.new_rows()

    def rows(self, number: int) -> Rows:
        """The memory of a window."""
        return self._ring[number % len(self._ring)]

    def takers(self, filled: int, rows: int) -> list[NDArray[np.void]]:
        """The WINDOWs that the next rows behind `filled` go to."""
        first = max(0, (filled - self._window_rows) // self._strip_rows + 1)
        last = (filled + rows - 1) // self._strip_rows
        found = []
        for number in range(first, last + 1):
            shift = filled - number * self._strip_rows
            for column, there in zip(self._columns, self.rows(number).surfaces, strict=True):
                across = column.stop - column.start
                found.append(window(there, self._channels, self._window_rows, across, column.start, shift))
        return found

    def gather(self, stream: Stream, start: int, filled: int, stop: int, unfinished: int) -> None:
        """Make `last`, of the rows [start, stop), out of the windows that hold them, `unfinished` the first of those
        that are not complete; row `filled` - 1 is repeated."""
        pieces = []
        row = start
        while row < filled:
            number = min(row // self._strip_rows, unfinished)
            end = min(filled, (number + 1) * self._strip_rows if number < unfinished else filled)
            pieces.append((number, row, end))
            row = end
        for at, column in enumerate(self._columns):
            line = 4 * (column.stop - column.start)
            for channel in range(len(self._channels)):
                to = self.last.surfaces[at] + line * channel * (stop - start)
                for number, first, end in pieces:
                    source = self.rows(number).surfaces[at]
                    source += line * (channel * self._window_rows + first - number * self._strip_rows)
                    self._driver.copy(to + line * (first - start), source, line * (end - first), stream)
                for row in range(filled, stop):
                    self._driver.copy(to + line * (row - start), to + line * (filled - 1 - start), line, stream)
