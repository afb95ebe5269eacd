"""One model on windows of stored web, as often and for as long as it is wanted."""

from collections.abc import Iterable

import numpy as np

from edge.core.types import F32, ClassMap
from edge.segmentation.backend import Backend
from edge.segmentation.windows import Window


class WindowNetwork:
    """Executes a model of so many `channels` on windows; their copies lie in memory made once for each of `shapes`
    (rows, columns). One thread at a time."""

    def __init__(self, backend: Backend, channels: int, shapes: Iterable[tuple[int, int]]) -> None:
        self._backend = backend
        self._channels = channels
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
            kept = slice(columns.keep_start, min(columns.keep_stop, width))
            kept_rows = slice(max(rows.keep_start, keep.start), min(rows.keep_stop, keep.stop))
            to = slice(kept_rows.start - keep.start, kept_rows.stop - keep.start)
            seen = slice(kept_rows.start - rows.start, kept_rows.stop - rows.start)
            across = slice(kept.start - columns.start, kept.stop - columns.start)
            class_index, score = self._backend.infer(window)
            class_map.class_index[to, kept] = class_index[0, seen, across]
            class_map.score[to, kept] = score[0, seen, across]

    def _input_of(self, rows: int, columns: int) -> F32:
        if (rows, columns) in self._inputs:
            return self._inputs[rows, columns]
        return np.empty((1, self._channels, rows, columns), np.float32)
