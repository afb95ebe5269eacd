"""One model on windows of stored web, as often and for as long as it is wanted."""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from edge.core.types import F32, U8, ClassMap
from edge.segmentation.backend import Backend, RowBackend, RowByRow
from edge.segmentation.windows import Window


class WindowNetwork:
    """Executes a model of so many `channels` on windows; their copies lie in memory made once for each of `shapes`
    (rows, columns). Windows of the whole web that follow each other are left to `going_on`, where there is one. One
    thread at a time."""

    def __init__(
        self,
        backend: Backend,
        channels: int,
        shapes: Iterable[tuple[int, int]],
        going_on: "GoingOn | None" = None,
    ) -> None:
        self._backend, self._channels, self._going_on = backend, channels, going_on
        self._seen_to: int | None = None
        self._inputs = {shape: np.zeros((1, channels, *shape), np.float32) for shape in shapes}

    def warm_up(self) -> None:
        """Run once on each shape: what a backend compiles at the first time is compiled then. Raises ModelError."""
        for window in self._inputs.values():
            self._backend.infer(window)

    def decide(self, planes: F32, windows: Iterable[tuple[Window, Window]], keep: slice, class_map: ClassMap) -> None:
        """Run on windows (rows, columns) of `planes` (channels, h, w) f32, and take over of their rows `keep` what each
        window decides into `class_map`, which begins with the first of these. Raises ModelError."""
        width = class_map.class_index.shape[1]
        for rows, columns in windows:
            window = self._input_of(rows.stop - rows.start, columns.stop - columns.start)
            window[0] = planes[:, rows.start : rows.stop, columns.start : columns.stop]
            kept_rows = slice(max(rows.keep_start, keep.start), min(rows.keep_stop, keep.stop))
            to = slice(kept_rows.start - keep.start, kept_rows.stop - keep.start)
            seen = slice(kept_rows.start - rows.start, kept_rows.stop - rows.start)
            kept, across = columns.kept(width)
            class_index, score = self._backend.infer(window)
            class_map.class_index[to, kept] = class_index[0, seen, across]
            class_map.score[to, kept] = score[0, seen, across]

    def decide_next(
        self, planes: F32, windows: Sequence[tuple[Window, Window]], keep: slice, class_map: ClassMap
    ) -> None:
        """As `decide`, of windows that are as high as `planes`."""
        follows, self._seen_to = self._follows(planes, keep, class_map), _bottom(planes, keep, class_map)
        if follows and self._going_on is not None:
            self._going_on.decide(planes, self._seen_to, class_map)
        else:
            self.decide(planes, windows, keep, class_map)

    def rows_of_next(self, planes: F32, keep: slice, class_map: ClassMap) -> int:
        """How many rows `decide_next` computes, once it goes on."""
        height: int = planes.shape[1]
        return class_map.rows if self._follows(planes, keep, class_map) else height

    def _follows(self, planes: F32, keep: slice, class_map: ClassMap) -> bool:
        """Whether these rows are the next ones, and can be decided as such."""
        bottom = _bottom(planes, keep, class_map)
        fits = self._going_on is not None and self._going_on.fits(keep, planes.shape[1])
        return fits and self._seen_to == bottom - class_map.rows

    def _input_of(self, rows: int, columns: int) -> F32:
        if (rows, columns) in self._inputs:
            return self._inputs[rows, columns]
        return np.empty((1, self._channels, rows, columns), np.float32)


def _bottom(planes: F32, keep: slice, class_map: ClassMap) -> int:
    """The web row at which planes end."""
    bottom: int = class_map.first_row - keep.start + planes.shape[1]
    return bottom


class GoingOn:
    """A model on a web that goes on by `rows` at a time: what was computed of the rows before is not computed again.

    `columns` are windows across, each the web of one of `row_by_row`. It begins wherever it is first asked, and anew
    wherever it is asked about other rows than the next.
    """

    def __init__(
        self, row_by_row: Sequence[RowByRow], columns: Sequence[Window], rows: int, halo: int, channels: int
    ) -> None:
        self._row_by_row, self._columns, self._rows, self._halo = row_by_row, columns, rows, halo
        self._input = np.zeros((1, channels, rows, columns[0].stop - columns[0].start), np.float32)
        self._seen_to: int | None = None

    @classmethod
    def of(cls, backend: Backend, channels: int, columns: Sequence[Window], rows: int, halo: int) -> Self | None:
        """Compiled and tried; `halo`: of the windows that it takes the place of, whatever the model's own. None where
        the backend cannot do it with this model. Raises ModelError."""
        if not isinstance(backend, RowBackend):
            return None
        made = cls([], columns, rows, halo, channels)
        found = [backend.row_by_row(made._input.shape, halo) for _ in columns]
        made._row_by_row = [each for each in found if each is not None]
        for each in made._row_by_row:
            each.push(made._input)
        return made if len(made._row_by_row) == len(columns) else None

    def fits(self, keep: slice, height: int) -> bool:
        """Whether what is to be kept of a window are `rows` rows between two halos."""
        return keep == slice(self._halo, self._halo + self._rows) and height == self._rows + 2 * self._halo

    def decide(self, planes: F32, bottom: int, class_map: ClassMap) -> None:
        """Decide `rows` rows into `class_map`: those a halo above `bottom`, the web row at which `planes` (channels,
        rows + 2 halo, w) f32 end. Raises ModelError."""
        begins, self._seen_to = self._seen_to != bottom - self._rows, None
        above = planes.shape[1] - self._rows
        for row_by_row, columns in zip(self._row_by_row, self._columns, strict=True):
            web = planes[..., columns.start : columns.stop]
            if begins:
                row_by_row.begin()
                for end in range((above - 1) % self._rows + 1, above + 1, self._rows):
                    self._show(row_by_row, web[:, max(end - self._rows, 0) : end])
            class_index, score = self._show(row_by_row, web[:, above:])
            kept, across = columns.kept(class_map.class_index.shape[1])
            class_map.class_index[:, kept] = class_index[0, :, across]
            class_map.score[:, kept] = score[0, :, across]
        self._seen_to = bottom

    def _show(self, row_by_row: RowByRow, web: F32) -> tuple[U8, U8]:
        """The next rows; where they are fewer, they are the first, and others above them do not matter."""
        self._input[0, :, self._rows - web.shape[1] :] = web
        return row_by_row.push(self._input)
