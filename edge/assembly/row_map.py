"""The decision of registration: which image row of which frame each web row takes from each light.

Deciding is apart from moving pixels, so that any kernel can execute the same decision.
"""

import math
from bisect import insort
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SNAP_PX = 0.01
"""A web row this close to an image row is taken from it as it is; otherwise it is interpolated over six rows."""
TAPS_BELOW, TAPS_ABOVE = 2, 3
_ROUNDING = 1e-6


@dataclass(frozen=True, order=True)
class View:
    """Where a frame lies: web row of its image row 0, and the slot that holds its pixels."""

    offset_row: float
    slot: int


@dataclass(frozen=True)
class RowMap:
    """For each light and web row from `first_row` on: `slot` (n, rows) i32, -1 where the light has not seen the row,
    and `source_row` (n, rows) f64, the image row there, NaN where there is none."""

    slot: NDArray[np.int32]
    source_row: NDArray[np.float64]
    first_row: int


@dataclass
class Views:
    """The frames that still matter, by light."""

    lights: int
    height: int
    transport_sign: int
    _by_light: list[list[View]] = field(init=False)

    def __post_init__(self) -> None:
        self._by_light = [[] for _ in range(self.lights)]

    def rows_of(self, view: View) -> tuple[float, float]:
        """Lowest and highest web row of a frame, inclusive, on its image rows."""
        other_end = view.offset_row + self.transport_sign * (self.height - 1)
        return min(view.offset_row, other_end), max(view.offset_row, other_end)

    def end_of(self, view: View) -> int:
        """The first whole web row beyond a frame."""
        return math.floor(self.rows_of(view)[1] + _ROUNDING) + 1

    @property
    def end_row(self) -> int:
        """The first whole web row beyond all frames; 0 without any."""
        return max((self.end_of(view) for views in self._by_light for view in views), default=0)

    def stretch(self, about_row: float, factor: float) -> None:
        """Lay all frames by `factor` as far from a web row."""
        for views in self._by_light:
            views[:] = [View(about_row + factor * (view.offset_row - about_row), view.slot) for view in views]

    def add(self, light: int, view: View) -> View | None:
        """Keep a frame. Returns one that no web row would take any more, because its neighbours are nearer."""
        views = self._by_light[light]
        insort(views, view)
        for i in range(max(1, len(views) - 2), len(views) - 1):
            centre = self.transport_sign * (self.height - 1) / 2
            low = (views[i - 1].offset_row + views[i].offset_row) / 2 + centre
            high = (views[i].offset_row + views[i + 1].offset_row) / 2 + centre
            if np.floor(high) <= low and high - low < 1:
                return views.pop(i)
        return None

    def release_before(self, row: int) -> list[View]:
        """Drop and return the frames that reach no web row from `row` on."""
        gone = []
        for k, views in enumerate(self._by_light):
            kept = [v for v in views if self.rows_of(v)[1] >= row - 1]
            gone += [v for v in views if self.rows_of(v)[1] < row - 1]
            self._by_light[k] = kept
        return gone

    def decide(self, first_row: int, rows: int) -> RowMap:
        """Take each web row from the frame that has it nearest its centre; of two alike the one further on the web."""
        web_rows = np.arange(first_row, first_row + rows, dtype=np.float64)
        slot = np.full((self.lights, rows), -1, np.int32)
        source = np.full((self.lights, rows), np.nan)
        for k, views in enumerate(self._by_light):
            nearest = np.full(rows, np.inf)
            for view in views:
                image_row = self.transport_sign * (web_rows - view.offset_row)
                distance = np.abs(image_row - (self.height - 1) / 2)
                better = self._reachable(image_row) & (distance <= nearest)
                nearest[better] = distance[better]
                slot[k, better] = view.slot
                source[k, better] = image_row[better]
        return RowMap(slot, source, first_row)

    def settled(self, newest: View, first_row: int, rows: int) -> RowMap | None:
        """As `decide`, as soon as no frame after `newest`, the last one added, would change it if the web does not run
        back; None before."""
        lowest, highest = self.rows_of(newest)
        end_row = first_row + rows
        last = min(views[-1].offset_row if views else -np.inf for views in self._by_light)
        if end_row > lowest + _ROUNDING and end_row - 1 > (lowest + highest + last - newest.offset_row) / 2:
            return None  # some light's next frame will be nearer
        row_map = self.decide(first_row, rows)
        web_rows = np.arange(first_row, end_row)
        to_centre = (lowest + highest) / 2 - web_rows  # of `newest`; of a frame to come no less
        out_of_reach = web_rows + 1 <= lowest + _ROUNDING
        for source_row in row_map.source_row:
            past_centre = self.transport_sign * (source_row - (self.height - 1) / 2)
            nearer = (past_centre < to_centre - _ROUNDING) & (past_centre > -to_centre - _ROUNDING)
            if not (nearer | out_of_reach).all():
                return None
        return row_map

    def _reachable(self, image_row: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Image rows that exist, or lie where all six taps exist."""
        whole = np.abs(image_row - np.rint(image_row)) <= SNAP_PX
        inside = (image_row > -0.5) & (image_row < self.height - 0.5)
        below = np.floor(image_row)
        taps = (below - TAPS_BELOW >= 0) & (below + TAPS_ABOVE <= self.height - 1)
        reachable: NDArray[np.bool_] = np.where(whole, inside, taps)
        return reachable
