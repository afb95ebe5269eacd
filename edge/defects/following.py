"""One defect while it is followed from strip to strip: sums, hull and outline, in bounded memory at any length."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.core.types import Defect, Polygon
from edge.core.web_axes import WebAxes
from edge.defects.outline import POINTS_PER_EVENT, Points, convex_hull, outlines, smallest_rectangle, thinned
from edge.defects.runs import Components, Runs, end_points, paint

Phase = Literal["opened", "continued", "closed"]

_MAX_UNSENT_POINTS = 16 * POINTS_PER_EVENT


@dataclass(eq=False, slots=True)
class Following:
    """A connected flaw as far as it has been seen, in pixels; `id` is None until it has been reported.

    `hull` (n, 2) i32 columns and rows of pixel centres, rows from `top`. `near` and `far`: where it begins and ends
    along transport, in rows at column 0. `unsent`: outline not yet sent as (first row, polygons) pieces; a piece fits
    into one event and is never split.
    """

    class_index: int
    left: int
    top: int
    right: int
    near: float
    far: float
    hull: Points
    id: int | None = None
    area: int = 0
    sum_x: int = 0
    sum_y: int = 0
    score_sum: int = 0
    score_max: int = 0
    unsent: list[tuple[int, list[Points]]] = field(default_factory=list)

    @classmethod
    def seen(cls, sums: Components, k: int, runs: Runs, first_row: int, axes: WebAxes) -> "Following":
        """Component `k` of a strip that begins at web row `first_row`, made of `runs` (at least one)."""
        left, top, right, bottom = int(sums.left[k]), int(sums.top[k]), int(sums.right[k]), int(sums.bottom[k])
        ends = end_points(runs, top)
        corner = np.array([left, 0], np.int32)
        lean = axes.rows_per_column
        along = ends @ np.array([-lean, 1.0])
        pieces = outlines(paint(runs, left, top, right - left, bottom - top))
        return cls(
            class_index=int(sums.class_index[k]),
            left=left,
            top=first_row + top,
            right=right,
            near=first_row + top + float(along.min()) - max(0.0, lean),
            far=first_row + top + float(along.max()) + 1 - min(0.0, lean),
            hull=convex_hull(ends),
            area=int(sums.area[k]),
            sum_x=int(sums.sum_x[k]),
            sum_y=int(sums.sum_y[k]) + first_row * int(sums.area[k]),
            score_sum=int(sums.score_sum[k]),
            score_max=int(sums.score_max[k]),
            unsent=[(first_row + top, [polygon + corner for polygon in piece]) for piece in pieces],
        )

    def absorb(self, other: "Following") -> None:
        """Goes on as both: measures cover both, and the other's unsent outline is sent with this one's."""
        top = min(self.top, other.top)
        self.hull = convex_hull(np.concatenate((self._hull_from(top), other._hull_from(top))))
        self.left, self.top = min(self.left, other.left), top
        self.right = max(self.right, other.right)
        self.near, self.far = min(self.near, other.near), max(self.far, other.far)
        self.area += other.area
        self.sum_x += other.sum_x
        self.sum_y += other.sum_y
        self.score_sum += other.score_sum
        self.score_max = max(self.score_max, other.score_max)
        self.unsent += other.unsent
        if self.id is None and self.unsent_points > _MAX_UNSENT_POINTS:
            # Nobody has been told of it, and nobody may ever be: its hull so far stands for its outline.
            self.unsent = [(top, [thinned(self.hull, POINTS_PER_EVENT)])]

    @property
    def unsent_points(self) -> int:
        """Points of outline that no event has carried yet."""
        return sum(_points(piece) for piece in self.unsent)

    def event(self, phase: Phase, label: str, axes: WebAxes, merged_into: int | None) -> Defect:
        """The defect as it stands, with as much unsent outline as one event holds (none where it was merged)."""
        assert self.id is not None
        length_px, width_px, orientation_deg = smallest_rectangle(self.hull @ axes.unsheared)
        column, row = self.sum_x / self.area + 0.5, self.sum_y / self.area + 0.5
        return Defect(
            id=self.id,
            label=label,
            phase=phase,
            box_mm=(
                self.left * axes.column_mm,
                self.near * axes.row_mm,
                self.right * axes.column_mm,
                self.far * axes.row_mm,
            ),
            centroid_mm=(column * axes.column_mm, (row - column * axes.rows_per_column) * axes.row_mm),
            area_mm2=self.area * axes.pitch_mm**2,
            length_mm=(length_px + 1) * axes.pitch_mm,
            width_mm=(width_px + 1) * axes.pitch_mm,
            orientation_deg=orientation_deg,
            score_mean=self.score_sum / self.area / 255,
            score_max=self.score_max / 255,
            contour_mm=[] if merged_into is not None else self._take_contour(axes),
            merged_into=merged_into,
        )

    def _hull_from(self, top: int) -> Points:
        return self.hull + np.array([0, self.top - top], np.int32)

    def _take_contour(self, axes: WebAxes) -> list[Polygon]:
        taken: list[Polygon] = []
        room = POINTS_PER_EVENT
        while self.unsent and _points(self.unsent[0]) <= room:
            room -= _points(self.unsent[0])
            top, polygons = self.unsent.pop(0)
            taken += [_millimetres(polygon + np.array([0, top]), axes) for polygon in polygons]
        return taken


def _points(piece: tuple[int, list[Points]]) -> int:
    return sum(map(len, piece[1]))


def _millimetres(polygon: NDArray[np.int64], axes: WebAxes) -> Polygon:
    return [(x, y) for x, y in np.round(axes.to_mm(polygon + 0.5), 4).tolist()]
