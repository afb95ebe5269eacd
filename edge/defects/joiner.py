"""Joins the class maps of successive strips into defects that no strip border cuts, measured in millimetres.

Pixel (row, column) covers [column, column + 1) x [row, row + 1), so its centre lies at (column + 0.5, row + 0.5);
`WebAxes` says where that is on the web. Boxes are outer pixel edges, contours run through pixel centres, and
length and width are those of the smallest rectangle around the pixel centres plus one pixel.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.core.config import DefectsConfig
from edge.core.types import ClassMap, Defect
from edge.core.web_axes import WebAxes
from edge.defects.following import Following, Phase
from edge.defects.outline import POINTS_PER_EVENT
from edge.defects.rules import worth_reporting
from edge.defects.runs import I64, Runs, compile_kernels, connect, find_runs, no_runs


class DefectJoiner:
    """Follows the 8-connected components of each class through strips of any height.

    `labels`: class names by index, 0 is background; `rules`: what is worth reporting; `axes`: where pixels lie on the
    web; `width`: columns of the class maps.

    A defect is opened in the strip in which it has become large and sure enough, and closed in the first one whose
    last row it does not reach (both at once if it is seen whole). Ids count from 1 in the order of opening; defects
    opened by one strip are ordered by where they first appear in it. Of two opened defects that meet, the smaller id
    goes on. Closed measures do not depend on how the web was cut into strips.
    """

    def __init__(self, labels: Sequence[str], rules: DefectsConfig, axes: WebAxes, width: int) -> None:
        self._labels = tuple(labels)
        self._axes = axes
        self._width = width
        self._min_area, self._min_score = worth_reporting(self._labels, rules, axes.pitch_mm)
        self._next_row: int | None = None
        self._next_id = 1
        self._seam = no_runs()
        self._on_seam: list[Following] = []
        self._seam_owner: I64 = np.zeros(0, np.int64)
        compile_kernels()

    def push(self, class_map: ClassMap) -> list[Defect]:
        """The events of the next rows of web, in a fixed order.

        Raises ValueError where the map has another width, does not begin at the row the last one ended on, or holds a
        class without a label.
        """
        self._check(class_map)
        if class_map.rows == 0:
            return []
        new = find_runs(class_map.class_index, class_map.score)
        if new.class_index.max(initial=0) >= len(self._labels):
            raise ValueError(f"class {new.class_index.max()} has no label, there are {len(self._labels)}")
        component, sums = connect(self._seam, self._seam_owner, new)
        on_seam, of_new = component[: len(self._seam_owner)], component[len(self._seam_owner) :]

        meeting: dict[int, list[Following]] = {}
        _, first_run = np.unique(self._seam_owner, return_index=True)
        for defect, k in zip(self._on_seam, on_seam[first_run].tolist(), strict=True):
            meeting.setdefault(k, []).append(defect)
        goes_on = (sums.area > 0) & (sums.bottom == class_map.rows)
        worth = goes_on | self._reportable(sums.class_index, sums.area, sums.score_max)
        worth[list(meeting)] = True

        events: list[Defect] = []
        followed: dict[int, Following] = {}
        runs_of = _Grouped(new, of_new, len(sums.area))
        for k in np.flatnonzero(worth).tolist():
            defects = meeting.get(k, [])
            if sums.area[k]:
                defects = [*defects, Following.seen(sums, k, runs_of[k], class_map.first_row, self._axes)]
            defect = self._merge(defects, events)
            self._report(defect, events)
            if goes_on[k]:
                followed[k] = defect
            else:
                self._close(defect, events)
        self._carry(followed, new, of_new, class_map.rows)
        return events

    def finish(self) -> list[Defect]:
        """Closes what is still open: the web has ended."""
        events: list[Defect] = []
        for defect in self._on_seam:
            self._close(defect, events)
        self._carry({}, no_runs(), np.zeros(0, np.int64), 0)
        return events

    def _check(self, class_map: ClassMap) -> None:
        shape = class_map.class_index.shape
        if shape[1:] != (self._width,) or class_map.score.shape != shape:
            raise ValueError(f"class map {shape} and score {class_map.score.shape} are not {self._width} columns wide")
        if self._next_row not in (None, class_map.first_row):
            raise ValueError(f"strip begins at row {class_map.first_row}, expected {self._next_row}")
        self._next_row = class_map.first_row + class_map.rows

    def _reportable(self, class_index: I64 | int, area: I64 | int, score_max: I64 | int) -> NDArray[np.bool_]:
        """Whether one defect, or each of many, is large and sure enough."""
        return (area >= self._min_area[class_index]) & (score_max >= self._min_score[class_index])

    def _merge(self, defects: list[Following], events: list[Defect]) -> Following:
        """The one defect that these turned out to be: that with the smallest id, else the first."""
        survivor = min(defects, key=lambda defect: math.inf if defect.id is None else defect.id)
        for other in defects:
            if other is survivor:
                continue
            if other.id is not None:
                events.append(self._event(other, "closed", merged_into=survivor.id))
            survivor.absorb(other)
        return survivor

    def _report(self, defect: Following, events: list[Defect]) -> None:
        if defect.id is None and self._reportable(defect.class_index, defect.area, defect.score_max):
            defect.id = self._next_id
            self._next_id += 1
            events.append(self._event(defect, "opened"))
        while defect.id is not None and defect.unsent_points > POINTS_PER_EVENT:
            events.append(self._event(defect, "continued"))

    def _close(self, defect: Following, events: list[Defect]) -> None:
        if defect.id is not None:
            events.append(self._event(defect, "closed"))

    def _event(self, defect: Following, phase: Phase, merged_into: int | None = None) -> Defect:
        return defect.event(phase, self._labels[defect.class_index], self._axes, merged_into)

    def _carry(self, followed: dict[int, Following], runs: Runs, component: I64, rows: int) -> None:
        """Keeps the last row's runs and whose they are."""
        last = runs.row == rows - 1
        self._on_seam = list(followed.values())
        self._seam = runs.take(last)._replace(row=np.full(int(last.sum()), -1))
        self._seam_owner = np.searchsorted(np.array(list(followed), np.int64), component[last])


class _Grouped:
    """Runs by component, of which there are `count`."""

    def __init__(self, runs: Runs, component: I64, count: int) -> None:
        order = np.argsort(component, kind="stable")
        self._runs = runs.take(order)
        self._first: list[int] = np.searchsorted(component[order], np.arange(count + 1)).tolist()

    def __getitem__(self, k: int) -> Runs:
        return self._runs.take(slice(self._first[k], self._first[k + 1]))
